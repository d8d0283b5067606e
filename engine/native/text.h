/* Text going out: one buffer for all, filled and sent before anything else happens. */
#pragma once
#include "nouns.h"

static char *text, *end; /* the buffer; where the next byte goes */
static size_t text_room;

static void reserve(size_t more) {
    size_t used = (size_t)(end - text);
    text = grown(text, &text_room, used + more, 1);
    end = text + used;
}

static void begin_text(size_t room) {
    end = text;
    reserve(room);
}

static void put(const char *bytes, size_t n) { /* into room that has been reserved */
    memcpy(end, bytes, n);
    end += n;
}
#define PUT(literal) put(literal, sizeof literal - 1)

static void puts_(const char *string) { put(string, strlen(string)); }

static void put_number(uint64_t value) {
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445"
        "46474849505152535455565758596061626364656667686970717273747576777879808182838485868788899091"
        "9293949596979899";
    char digits[20], *at = digits + sizeof digits;
    for (; value >= 100; value /= 100) memcpy(at -= 2, pairs + value % 100 * 2, 2);
    if (value >= 10) memcpy(at -= 2, pairs + value * 2, 2);
    else *--at = (char)('0' + value);
    put(at, (size_t)(digits + sizeof digits - at));
}

static void put_json(const char *string) { /* a JSON string's inside */
    reserve(strlen(string) * 6 + 64);
    for (; *string; string++) {
        unsigned char c = (unsigned char)*string;
        if (c == '"' || c == '\\') *end++ = '\\';
        if (c == '\n') PUT("\\n");
        else if (c < 0x20) end += sprintf(end, "\\u%04x", c);
        else *end++ = (char)c;
    }
}

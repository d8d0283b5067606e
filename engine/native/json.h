/* JSON coming in: a walk over a body, which ends in a NUL that no JSON holds. */
#pragma once
#include "nouns.h"

struct span { const char *at; size_t n; }; /* a value's text; at == NULL: absent */

static struct ids { /* the prompt, taken in while it is walked over */
    bool valid, plain; /* plain: nothing but digits and commas */
    int64_t n, sum, low, high;
    uint32_t crc;
    struct span text; /* inside the brackets */
} ids;

static uint32_t crc_table[4][256];

static void make_crc_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        crc_table[0][i] = crc;
    }
    for (int t = 1; t < 4; t++)
        for (int i = 0; i < 256; i++) {
            uint32_t before = crc_table[t - 1][i];
            crc_table[t][i] = before >> 8 ^ crc_table[0][before & 255];
        }
}

static const char *blank(const char *p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') p++;
    return p;
}

static const char *walk_string(const char *p) { /* from its quote; NULL: no string */
    for (p++; *p != '"'; p++) {
        if ((unsigned char)*p < 0x20) return NULL;
        if (*p == '\\' && !strchr("\"\\/bfnrtu", *++p)) return NULL;
        if (!*p) return NULL;
    }
    return p + 1;
}

static const char *walk_digits(const char *p) {
    if (!isdigit((unsigned char)*p)) return NULL;
    while (isdigit((unsigned char)*p)) p++;
    return p;
}

static const char *walk_number(const char *p) {
    if (*p == '-') p++;
    p = *p == '0' ? p + 1 : walk_digits(p);
    if (p && *p == '.') p = walk_digits(p + 1);
    if (p && (*p == 'e' || *p == 'E')) p = walk_digits(p[1] == '+' || p[1] == '-' ? p + 2 : p + 1);
    return p;
}

/* One id of one to seven digits without anything around it, as nearly all are: eight bytes at once,
 * for a mispredicted branch at the end of each number would cost more than all else. Returns its
 * number of digits; 0: it is written otherwise. (Little-endian, and reads up to PADDING bytes on.) */
static inline unsigned short_id(const char *p, int64_t *id) {
    uint64_t bytes;
    memcpy(&bytes, p, 8);
    uint64_t digits = bytes ^ 0x3030303030303030, other;
    other = ((digits + 0x7676767676767676) | digits) & 0x8080808080808080;
    unsigned n = other ? (unsigned)__builtin_ctzll(other) / 8 : 0;
    if (n == 0 || (*p == '0' && n > 1)) return 0;
    digits = digits << (64 - 8 * n) & 0x0F0F0F0F0F0F0F0F;
    digits = digits * (10 * (1 << 8) + 1) >> 8 & 0x00FF00FF00FF00FF;
    digits = digits * (100 * (1 << 16) + 1) >> 16 & 0x0000FFFF0000FFFF;
    *id = (int64_t)(digits * (UINT64_C(10000) * (UINT64_C(1) << 32) + 1) >> 32);
    return n;
}

static const char *any_id(const char *p, int64_t *id) { /* behind the blanks after it; NULL: none */
    p = blank(p);
    const char *after = walk_number(p);
    if (!after || after - p > 18) return NULL;
    char *integer;
    *id = strtoll(p, &integer, 10);
    return integer == after ? blank(after) : NULL;
}

/* The ids of a prompt from its bracket to behind the other one; NULL: not a flat list of integers.
 * The checksum is the CRC-32 of the ids as little-endian int32, four bytes a step. */
static const char *walk_ids(const char *p) {
    const char *start = p + 1;
    int64_t n = 0, sum = 0, low = INT64_MAX, high = INT64_MIN;
    uint32_t crc = ~0u;
    bool plain = true;
    do {
        int64_t id;
        unsigned digits = short_id(++p, &id);
        if (digits && (p[digits] == ',' || p[digits] == ']')) p += digits;
        else {
            plain = false;
            if (!(p = any_id(p, &id))) return NULL;
        }
        n++, sum += id;
        low = id < low ? id : low;
        high = id > high ? id : high;
        crc ^= (uint32_t)id;
        crc = crc_table[3][crc & 255] ^ crc_table[2][crc >> 8 & 255] ^
              crc_table[1][crc >> 16 & 255] ^ crc_table[0][crc >> 24];
    } while (*p == ',');
    if (*p != ']') return NULL;
    ids = (struct ids){true, plain, n, sum, low, high, ~crc, {start, (size_t)(p - start)}};
    return p + 1;
}

static const char *walk_object(const char *p, const char *const *keys, struct span *found, int depth);

static const char *walk(const char *p, int depth) { /* any value; NULL: malformed */
    if (depth > 100) return NULL;
    switch (*p) {
    case '{': return walk_object(p, (const char *const[]){NULL}, NULL, depth);
    case '"': return walk_string(p);
    case 't': return strncmp(p, "true", 4) ? NULL : p + 4;
    case 'f': return strncmp(p, "false", 5) ? NULL : p + 5;
    case 'n': return strncmp(p, "null", 4) ? NULL : p + 4;
    case '[': break;
    default: return walk_number(p);
    }
    p = blank(p + 1);
    if (*p == ']') return p + 1;
    for (;; p = blank(p + 1)) {
        if (!(p = walk(p, depth + 1))) return NULL;
        p = blank(p);
        if (*p != ',') return *p == ']' ? p + 1 : NULL;
    }
}

/* An object from brace to behind brace; the values of `keys` (NULL ends them; keys[0] is the
 * prompt's where depth is 0) into `found`, of equal ones the last. */
static const char *walk_object(const char *p, const char *const *keys, struct span *found, int depth) {
    p = blank(p + 1);
    if (*p == '}') return p + 1;
    for (;; p = blank(p + 1)) {
        const char *key = p + 1, *after = *p == '"' ? walk_string(p) : NULL, *value;
        if (!after || *(p = blank(after)) != ':') return NULL;
        value = blank(p + 1);
        size_t n = (size_t)(after - 1 - key);
        int i = 0;
        while (keys[i] && (strlen(keys[i]) != n || memcmp(keys[i], key, n))) i++;
        bool prompt = keys[i] && i == 0 && depth == 0;
        if (prompt) ids.valid = false;
        p = prompt && *value == '[' ? walk_ids(value) : NULL;
        if (!p) {
            ids.valid &= !prompt;
            if (!(p = walk(value, depth + 1))) return NULL;
        }
        if (keys[i]) found[i] = (struct span){value, (size_t)(p - value)};
        p = blank(p);
        if (*p != ',') return *p == '}' ? p + 1 : NULL;
    }
}

static bool is(struct span s, const char *string) {
    return s.at && s.n == strlen(string) && !memcmp(s.at, string, s.n);
}

static bool given(struct span s) { return s.at && !is(s, "null"); }

static bool truthy(struct span s) { /* as Python sees it */
    if (!given(s) || is(s, "false") || is(s, "\"\"")) return false;
    if (*s.at == '[' || *s.at == '{') return *blank(s.at + 1) != (*s.at == '[' ? ']' : '}');
    return isdigit((unsigned char)*s.at) || *s.at == '-' ? strtod(s.at, NULL) != 0 : true;
}

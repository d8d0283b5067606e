/* What an answer looks like: engine/vllm_dialect.py and engine/sglang_dialect.py. */
#pragma once
#include "text.h"

static void put_ids(struct answer *a, int64_t count) {
    for (; count > 0; count--) {
        put_number(a->id);
        if (count > 1) *end++ = ',';
        a->id += a->step;
        if (a->id >= options.vocab) a->id -= (uint32_t)options.vocab;
    }
}

static void put_envelope(const struct answer *a) {
    PUT("{\"id\":\"cmpl-");
    if (a->name) puts_(a->name);
    else put_number((uint64_t)a->truth.number);
    PUT("\",\"object\":\"text_completion\",\"created\":");
    put_number((uint64_t)a->created_s);
    PUT(",\"model\":\"");
    puts_(options.name);
    PUT("\",\"choices\":[");
}

static void put_usage(const struct answer *a, int64_t count) {
    PUT("],\"usage\":{\"prompt_tokens\":");
    put_number((uint64_t)a->truth.prompt_tokens);
    PUT(",\"total_tokens\":");
    put_number((uint64_t)(a->truth.prompt_tokens + count));
    PUT(",\"completion_tokens\":");
    put_number((uint64_t)count);
    PUT("}}");
}

static void put_completion(struct answer *a, int64_t new, int finish) { /* without its end, ]} */
    put_envelope(a);
    PUT("{\"index\":0,\"text\":\"\",\"logprobs\":null,\"token_ids\":");
    if (a->with_ids) {
        *end++ = '[';
        put_ids(a, new);
        *end++ = ']';
    } else PUT("null");
    PUT(",\"finish_reason\":");
    if (finish == UNFINISHED) PUT("null");
    else *end++ = '"', puts_(FINISHES[finish]), *end++ = '"';
    PUT(",\"stop_reason\":null,\"prompt_token_ids\":");
    if (a->prompt) { /* only beside the first ids */
        *end++ = '[';
        put(a->prompt, a->prompt_bytes);
        *end++ = ']';
        free(a->prompt);
        a->prompt = NULL;
    } else PUT("null");
    *end++ = '}';
}

static void put_generation(struct answer *a, int64_t new, int finish) {
    int64_t count = a->truth.n_tokens + new;
    PUT("{\"output_ids\":[");
    char *ids = end;
    put_ids(a, new);
    if (a->stream && !options.incremental) { /* all so far; kept as text, for it only grows */
        size_t fresh = (size_t)(end - ids), comma = a->so_far_bytes > 0 && fresh > 0;
        a->so_far = grown(a->so_far, &a->so_far_room, a->so_far_bytes + fresh + 1, 1);
        if (comma) a->so_far[a->so_far_bytes] = ',';
        memcpy(a->so_far + a->so_far_bytes + comma, ids, fresh);
        a->so_far_bytes += fresh + comma;
        end = ids;
        put(a->so_far, a->so_far_bytes);
    }
    PUT("],\"meta_info\":{\"id\":\"");
    if (a->name) puts_(a->name);
    else put_number((uint64_t)a->truth.number);
    PUT("\",\"prompt_tokens\":");
    put_number((uint64_t)a->truth.prompt_tokens);
    PUT(",\"cached_tokens\":0,\"weight_version\":\"default\",\"completion_tokens\":");
    put_number((uint64_t)count);
    PUT(",\"finish_reason\":");
    if (finish == STOP) {
        uint32_t last = a->id < a->step ? a->id + (uint32_t)options.vocab - a->step : a->id - a->step;
        PUT("{\"type\":\"stop\",\"matched\":");
        put_number(last);
        *end++ = '}';
    } else if (finish == LENGTH) {
        PUT("{\"type\":\"length\",\"length\":");
        put_number((uint64_t)count);
        *end++ = '}';
    } else if (finish == ABORT)
        PUT("{\"type\":\"abort\",\"message\":\"Aborted\",\"status_code\":null,\"err_type\":null}");
    else PUT("null");
    PUT("}}");
}

static size_t open_event(void) { /* room for a chunk's size, filled in by close_event */
    end += 8;
    PUT("data: ");
    return (size_t)(end - text) - 6;
}

static size_t close_event(size_t start) { /* where the event begins, now that its size is known */
    PUT("\n\n");
    char digits[24];
    int n = sprintf(digits, "%zx\r\n", (size_t)(end - text) - start);
    memcpy(text + start - n, digits, (size_t)n);
    PUT("\r\n");
    return start - (size_t)n;
}

static size_t put_event(struct answer *a, int64_t new, int finish) {
    size_t start = open_event();
    if (a->truth.dialect == SGLANG) put_generation(a, new, finish);
    else put_completion(a, new, finish), PUT("]}");
    return close_event(start);
}

static void put_tail(struct answer *a, int64_t count) { /* from the last event to the zero chunk */
    if (a->truth.dialect == VLLM && a->with_usage) {
        char *from = end;
        size_t start = open_event();
        put_envelope(a);
        put_usage(a, count);
        start = close_event(start); /* the room for the size was larger than the size */
        size_t n = (size_t)(end - (text + start));
        memmove(from, text + start, n);
        end = from + n;
    }
    PUT(STREAM_END);
}

static size_t put_body(struct answer *a, int finish) {
    end += HEAD_ROOM;
    char *body = end;
    if (a->truth.dialect == SGLANG) put_generation(a, a->n, finish);
    else put_completion(a, a->n, finish), put_usage(a, a->n);
    char head[HEAD_ROOM];
    int n = sprintf(head, "HTTP/1.1 200 OK\r\ncontent-type: " JSON "\r\ncontent-length: %zu\r\n\r\n",
                    (size_t)(end - body));
    memcpy(body - n, head, (size_t)n);
    return (size_t)(body - n - text);
}

/* Requests and refusals: what the dialects ask for, and the words in which they say no. */
#pragma once
#include "answers.h"
#include "json.h"

static struct refusal { char message[512]; int status; const char *param; bool stream; } refusal;

__attribute__((format(printf, 3, 4)))
static bool refuse(int status, const char *param, const char *form, ...) {
    va_list values;
    va_start(values, form);
    vsnprintf(refusal.message, sizeof refusal.message, form, values);
    va_end(values);
    refusal.status = status, refusal.param = param;
    return false;
}

static bool send_refusal(struct connection *c, enum dialect dialect) {
    if (refusal.status == 500) return send_response(c, 500, PLAIN, refusal.message), false;
    begin_text(1024);
    if (dialect == SGLANG && !refusal.stream) {
        PUT("{\"error\":{\"message\":\"");
        put_json(refusal.message);
        PUT("\"}}");
    } else {
        PUT("{\"error\":{\"message\":\"");
        put_json(refusal.message);
        PUT("\",\"type\":\"");
        if (dialect == SGLANG) PUT("invalid_request_error\",\"code\":");
        else puts_(refusal.status == 404 ? "NotFoundError" : "BadRequestError"), PUT("\",\"param\":");
        if (dialect == SGLANG) put_number((uint64_t)refusal.status), PUT(",\"retryable\":false}}");
        else {
            if (refusal.param) *end++ = '"', puts_(refusal.param), *end++ = '"';
            else PUT("null");
            PUT(",\"code\":");
            put_number((uint64_t)refusal.status);
            PUT("}}");
        }
    }
    char *json = strndup(text, (size_t)(end - text));
    if (dialect == SGLANG && refusal.stream) { /* HTTP 200 all the same */
        begin_text(strlen(json) + 1024);
        end += sprintf(end, STREAM_HEAD "%zx\r\ndata: %s\n\n\r\n" STREAM_END, strlen(json) + 8, json);
        send_text(c);
    } else send_response(c, refusal.status, JSON, json);
    free(json);
    return false;
}

/* The number under a key within its limits, which stand as Python prints them. */
static bool number(struct span s, const char *key, double fallback, const char *low,
                   const char *high, bool whole, double *value) {
    *value = fallback;
    if (!given(s)) return true;
    bool numeric = isdigit((unsigned char)*s.at) || *s.at == '-';
    if (whole && numeric)
        for (size_t i = 0; i < s.n; i++) numeric &= !strchr(".eE", s.at[i]);
    *value = numeric ? strtod(s.at, NULL) : NAN;
    if (*value >= strtod(low, NULL) && *value <= strtod(high, NULL)) return true;
    return refuse(400, key, "%s must be a number from %s to %s, got %.*s", key, low, high,
                  (int)(s.n < 99 ? s.n : 99), s.at);
}

static bool valid_ids(const char *param) {
    if (!ids.valid) return refuse(400, param, "must be a flat list of at least one token id");
    if (ids.low >= 0 && ids.high < options.vocab) return true;
    int64_t wrong = ids.low < 0 ? ids.low : ids.high;
    return refuse(400, param, "Token id %" PRId64 " is out of vocabulary", wrong);
}

static bool no_scores(const char *param) {
    return refuse(400, param, "the clock keeps time and has no model: no prompt log-probabilities; "
                              "start `python -m engine model`");
}

/* temperature, top_k and top_p are checked and change nothing here. */
static bool valid_sampling(const struct span *s) {
    double any;
    return number(s[0], "temperature", 1, "0.0", "inf", false, &any) &&
           number(s[1], "top_k", 0, "-1", "inf", true, &any) &&
           number(s[2], "top_p", 1, "1e-06", "1.0", false, &any);
}

static bool object(const char *body, const char *const *keys, struct span *found) {
    ids.valid = false;
    body = blank(body);
    const char *after = *body == '{' ? walk_object(body, keys, found, 0) : walk(body, 1);
    if (!after || *blank(after)) return refuse(400, NULL, "JSON decode error: malformed");
    return *body == '{' || refuse(400, NULL, "the body must be a JSON object");
}

static void within(struct span outer, const char *const *keys, struct span *found) {
    if (outer.at && *outer.at == '{') walk_object(outer.at, keys, found, 1);
}

static bool parse_vllm(const char *body, struct answer *a, struct span *name) {
    enum { PROMPT, MODEL, MAX, STREAM, TEMPERATURE, TOP_K, TOP_P, IGNORE, NAME, IDS, STREAM_OPTIONS,
           SCORES, N };
    static const char *const keys[] = {"prompt", "model", "max_tokens", "stream", "temperature",
        "top_k", "top_p", "ignore_eos", "request_id", "return_token_ids", "stream_options",
        "prompt_logprobs", NULL};
    struct span s[N] = {0}, usage = {0};
    double max, any;
    if (!object(body, keys, s)) return false;
    if (given(s[MODEL])) {
        bool string = *s[MODEL].at == '"';
        struct span m = {s[MODEL].at + string, s[MODEL].n - 2 * string};
        if (!string || !is(m, options.name))
            return refuse(404, "model", "The model `%.*s` does not exist.", (int)m.n, m.at);
    }
    if (!valid_ids("prompt")) return false;
    int64_t room = options.context - ids.n;
    if (room < 1)
        return refuse(400, "input_tokens", "%" PRId64 " prompt tokens, maximum context length is %"
                      PRId64, ids.n, options.context);
    a->stream = truthy(s[STREAM]);
    if (given(s[SCORES]) && !a->stream)
        return number(s[SCORES], "prompt_logprobs", 0, "0", "0", true, &any) &&
               no_scores("prompt_logprobs");
    if (!number(s[MAX], "max_tokens", 16, "1", "inf", true, &max)) return false;
    if (!valid_sampling(s + TEMPERATURE)) return false;
    a->max_tokens = max < (double)room ? (int64_t)max : room;
    a->ignore_eos = truthy(s[IGNORE]);
    a->with_ids = truthy(s[IDS]);
    within(s[STREAM_OPTIONS], (const char *const[]){"include_usage", NULL}, &usage);
    a->with_usage = truthy(usage);
    *name = s[NAME];
    return true;
}

static bool parse_sglang(const char *body, struct answer *a, struct span *name) {
    enum { PROMPT, SAMPLING, STREAM, NAME, SCORES, N };
    static const char *const keys[] = {"input_ids", "sampling_params", "stream", "rid",
                                       "return_logprob", NULL};
    enum { TEMPERATURE, TOP_K, TOP_P, IGNORE, MAX, WRONG_MAX, M };
    static const char *const more[] = {"temperature", "top_k", "top_p", "ignore_eos",
                                       "max_new_tokens", "max_tokens", NULL};
    struct span s[N] = {0}, t[M] = {0};
    double max;
    if (!object(body, keys, s)) return false;
    refusal.stream = a->stream = truthy(s[STREAM]);
    within(s[SAMPLING], more, t);
    if (t[WRONG_MAX].at) return refuse(500, NULL, "Internal Server Error"); /* as any unknown one */
    if (!valid_ids("input_ids")) return false;
    if (truthy(s[SCORES])) return no_scores("return_logprob");
    if (!number(t[MAX], "max_new_tokens", 128, "1", "inf", true, &max)) return false;
    if ((double)ids.n + max > (double)options.context)
        return refuse(400, NULL, "%" PRId64 " + %.0f tokens exceed the maximum context length of %"
                      PRId64, ids.n, max, options.context);
    if (!valid_sampling(t + TEMPERATURE)) return false;
    a->max_tokens = (int64_t)max;
    a->ignore_eos = truthy(t[IGNORE]);
    a->with_ids = true;
    *name = s[NAME];
    return true;
}

static void generate(struct connection *c, enum dialect dialect, const char *body, int64_t arrived) {
    struct replica *r = c->replica;
    struct answer *a = calloc(1, sizeof *a);
    struct span name = {0};
    if (!a) quit(1, "out of memory");
    a->truth = (struct truth){.number = ++r->n_requests, .arrived_ns = arrived,
                              .dialect = (uint8_t)dialect, .finish = UNFINISHED};
    r->log = grown(r->log, (size_t *)&r->log_room, (size_t)r->n_log + 1, sizeof *r->log);
    a->replica = r, a->epoch = r->epoch, a->slot = r->n_log++;
    refusal.stream = false;
    if (!(dialect == VLLM ? parse_vllm : parse_sglang)(body, a, &name)) {
        a->truth.finish = REFUSED;
        log_truth(a);
        free(a);
        send_refusal(c, dialect);
        return ready_for_next(c);
    }
    a->truth.prompt_tokens = ids.n, a->truth.prompt_sum = ids.sum;
    r->prompt_tokens += ids.n;
    uint32_t vocab = (uint32_t)options.vocab;
    a->id = ids.crc % vocab;
    a->step = 1 + ids.crc / vocab % (vocab > 1 ? vocab - 1 : 1);
    if (truthy(name)) {
        bool string = *name.at == '"';
        a->name = strndup(name.at + string, (name.n < 400 ? name.n : 400) - 2 * string);
    }
    if (dialect == VLLM) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        a->created_s = now.tv_sec;
        if (a->with_ids) { /* it is sent back beside the first ids */
            a->prompt = malloc(ids.text.n);
            if (!a->prompt) quit(1, "out of memory");
            if (ids.plain) memcpy(a->prompt, ids.text.at, a->prompt_bytes = ids.text.n);
            else
                for (size_t i = 0; i < ids.text.n; i++)
                    if (strchr("0123456789,", ids.text.at[i]))
                        a->prompt[a->prompt_bytes++] = ids.text.at[i];
        }
    }
    a->connection = c, c->answer = a;
    log_truth(a);
    link_answer(a, &r->waiting);
    if (a->stream) send_bytes(c, STREAM_HEAD, sizeof STREAM_HEAD - 1); /* before the first token */
    admit(r);
}

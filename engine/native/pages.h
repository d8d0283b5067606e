/* Pages: all that is not a generation. */
#pragma once
#include "requests.h"

static void put_truth(const struct truth *t) {
    reserve(512);
    end += sprintf(end, "{\"number\":%" PRId64 ",\"path\":\"%s\",\"arrived_ns\":%" PRId64
                   ",\"prompt_tokens\":%" PRId64 ",\"prompt_sum\":%" PRId64 ",\"first_ns\":%" PRId64
                   ",\"done_ns\":%" PRId64 ",\"n_tokens\":%" PRId64 ",\"n_events\":%" PRId64
                   ",\"fault\":null,\"finish\":",
                   t->number, PATHS[t->dialect], t->arrived_ns, t->prompt_tokens, t->prompt_sum,
                   t->first_ns, t->done_ns, t->n_tokens, t->n_events);
    if (t->finish == UNFINISHED) PUT("null}");
    else *end++ = '"', puts_(FINISHES[t->finish]), PUT("\"}");
}

static void finish_page(struct connection *c, const char *kind) { /* the text so far is its body */
    *end = 0;
    char *body = strdup(text);
    send_response(c, 200, kind, body);
    free(body);
}

static void truth_page(struct connection *c) {
    const struct replica *r = c->replica;
    for (const struct answer *a = r->running.after; a != &r->running; a = a->after) log_truth(a);
    begin_text(64);
    *end++ = '[';
    for (int64_t i = 0; i < r->n_log; i++) {
        if (i) *end++ = ',';
        put_truth(&r->log[i]);
    }
    *end++ = ']';
    finish_page(c, JSON);
}

static void metrics_page(struct connection *c) {
    const struct replica *r = c->replica;
    int64_t generated = r->generated_tokens;
    for (const struct answer *a = r->running.after; a != &r->running; a = a->after)
        generated += a->truth.n_tokens;
    const struct { const char *name; int64_t value; } gauges[] = {
        {"num_requests_running", r->n_running}, {"num_requests_waiting", r->n_waiting},
        {"prompt_tokens_total", r->prompt_tokens}, {"generation_tokens_total", generated},
        {"prefix_cache_queries_total", 0}, {"prefix_cache_hits_total", 0}};
    begin_text(2048 + 12 * strlen(options.name));
    PUT("vllm:cache_config_info{cache_dtype=\"auto\",enable_prefix_caching=\"False\",engine=\"0\"} 1.0\n");
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        end += sprintf(end, "vllm:%s{engine=\"0\",model_name=\"%s\"} %" PRId64 ".0\n",
                       gauges[i].name, options.name, gauges[i].value);
    for (int finish = STOP; finish <= ERROR; finish++)
        end += sprintf(end, "vllm:request_success_total{engine=\"0\",model_name=\"%s\","
                       "finished_reason=\"%s\"} %" PRId64 ".0\n",
                       options.name, FINISHES[finish], r->ends[finish]);
    finish_page(c, "text/plain; version=0.0.4");
}

static void abort_answers(struct replica *r, const char *body) {
    struct span s[3] = {0};
    if (!object(body, (const char *const[]){"", "rid", "abort_all", NULL}, s)) return;
    struct answer *rings[] = {&r->running, &r->waiting};
    r->admitting = true; /* nothing moves from ring to ring meanwhile */
    for (int i = 0; i < 2; i++)
        for (struct answer *a = rings[i]->after, *next; a != rings[i]; a = next) {
            next = a->after;
            bool named = a->name && s[1].n == strlen(a->name) + 2 &&
                         !memcmp(s[1].at + 1, a->name, s[1].n - 2);
            if (truthy(s[2]) || named) finish_answer(a, 0, ABORT);
        }
    r->admitting = false;
    admit(r);
}

static void put_max_running(void) {
    if (options.max_running == INT64_MAX) PUT("null");
    else end += sprintf(end, "%" PRId64, options.max_running);
}

static void sglang_page(struct connection *c, bool server) {
    begin_text(1024);
    PUT("{\"model_path\":\"");
    puts_(options.name);
    if (!server) PUT("\",\"is_generation\":true,\"weight_version\":\"default\"}");
    else {
        end += sprintf(end, "\",\"context_length\":%" PRId64 ",\"version\":\"" SGLANG_VERSION "\","
                       "\"stream_interval\":%" PRId64 ",\"incremental_streaming_output\":%s,"
                       "\"disable_radix_cache\":true,\"max_running_requests\":", options.context,
                       options.chunk, options.incremental ? "true" : "false");
        put_max_running();
        PUT(",\"tp_size\":1,\"dp_size\":1}");
    }
    finish_page(c, JSON);
}

static void loads_page(struct connection *c) {
    begin_text(256);
    end += sprintf(end, "{\"loads\":[{\"dp_rank\":0,\"num_running_reqs\":%" PRId64
                   ",\"num_waiting_reqs\":%" PRId64 "}]}", c->replica->n_running,
                   c->replica->n_waiting);
    finish_page(c, JSON);
}

static void models_page(struct connection *c) {
    begin_text(1024);
    end += sprintf(end, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\","
                   "\"root\":\"%s\",\"max_model_len\":%" PRId64 "}]}",
                   options.name, options.name, options.context);
    finish_page(c, JSON);
}

static void serve_page(struct connection *c, const char *asked, const char *body) {
    struct replica *r = c->replica;
    const bool *serves = options.serves;
#define ASKED(what) (!strcmp(asked, what))
    if (ASKED("GET /health")) send_response(c, 200, JSON, "");
    else if (ASKED("GET /truth")) truth_page(c);
    else if (ASKED("POST /truth/reset")) r->n_log = 0, r->epoch++, send_response(c, 200, JSON, "");
    else if (serves[VLLM] && ASKED("GET /metrics")) metrics_page(c);
    else if (serves[VLLM] && ASKED("GET /v1/models")) models_page(c);
    else if (serves[VLLM] && ASKED("GET /version"))
        send_response(c, 200, JSON, "{\"version\":\"" VLLM_VERSION "\"}");
    else if (serves[SGLANG] && (ASKED("GET /model_info") || ASKED("GET /get_model_info")))
        sglang_page(c, false);
    else if (serves[SGLANG] && (ASKED("GET /server_info") || ASKED("GET /get_server_info")))
        sglang_page(c, true);
    else if (serves[SGLANG] && ASKED("GET /v1/loads")) loads_page(c);
    else if (serves[SGLANG] && ASKED("POST /flush_cache")) {
        bool busy = r->n_running || r->n_waiting;
        send_response(c, busy ? 400 : 200, PLAIN,
                      busy ? "Requests are pending or running.\n" : "Cache flushed.\n");
    } else if (serves[SGLANG] && ASKED("POST /abort_request")) {
        abort_answers(r, body);
        send_response(c, 200, JSON, "");
    } else send_response(c, 404, JSON, "{\"detail\":\"Not Found\"}");
    ready_for_next(c);
}

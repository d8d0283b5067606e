/* An answer's life: it waits, runs on its grid of instants, and leaves. */
#pragma once
#include "connections.h"
#include "heap.h"
#include "render.h"

static void admit(struct replica *r);

static void unlink_answer(struct answer *a) {
    a->before->after = a->after;
    a->after->before = a->before;
    *(a->running ? &a->replica->n_running : &a->replica->n_waiting) -= 1;
}

static void link_answer(struct answer *a, struct answer *ring) {
    a->running = ring == &a->replica->running;
    a->before = ring->before, a->after = ring;
    ring->before->after = a;
    ring->before = a;
    *(a->running ? &a->replica->n_running : &a->replica->n_waiting) += 1;
}

static void log_truth(const struct answer *a) {
    if (a->epoch == a->replica->epoch) a->replica->log[a->slot] = a->truth;
}

static void leave(struct answer *a, int finish) { /* over: its place is free, so is its connection */
    struct replica *r = a->replica;
    a->truth.finish = (uint8_t)finish;
    log_truth(a);
    unlink_answer(a);
    r->generated_tokens += a->truth.n_tokens;
    r->ends[finish]++;
    ready_for_next(a->connection);
    a->connection = NULL;
    free(a->name), free(a->prompt), free(a->so_far);
    a->name = a->prompt = a->so_far = NULL;
    if (!a->in_heap) free(a);
    admit(r);
}

static void note(struct answer *a, int64_t new) {
    if (!a->truth.first_ns) a->truth.first_ns = now_ns();
    a->truth.n_tokens += new;
    a->truth.n_events++;
    if (a->truth.n_events == 1) log_truth(a); /* the log is read while streams are open */
}

static void finish_answer(struct answer *a, int64_t new, int finish) {
    struct connection *c = a->connection;
    begin_text(4096 + 12 * (size_t)new + a->prompt_bytes + a->so_far_bytes);
    size_t start;
    if (a->stream) start = put_event(a, new, finish), put_tail(a, a->truth.n_tokens + new);
    else a->n = new, start = put_body(a, finish);
    if (new) note(a, new);
    a->truth.done_ns = now_ns();
    send_bytes(c, text + start, (size_t)(end - text) - start);
    leave(a, finish);
}

static void middle(struct answer *a) { /* an event that is not the last */
    int64_t new = a->upto - a->truth.n_tokens;
    begin_text(4096 + 12 * (size_t)new + a->prompt_bytes + a->so_far_bytes);
    size_t start = put_event(a, new, UNFINISHED);
    note(a, new);
    send_bytes(a->connection, text + start, (size_t)(end - text) - start);
    a->upto = a->upto + options.chunk < a->n ? a->upto + options.chunk : a->n;
}

static int64_t due_ns(const struct answer *a) {
    return a->first_due_ns + (a->upto - 1) * options.itl_ns;
}

static void last(struct answer *a) {
    finish_answer(a, a->upto - a->truth.n_tokens, a->n == a->max_tokens ? LENGTH : STOP);
}

static void start_answer(struct answer *a) {
    int64_t now = now_ns();
    a->n = a->max_tokens;
    if (options.osl && !a->ignore_eos && options.osl < a->n) a->n = options.osl;
    a->upto = a->stream ? 1 : a->n;
    a->first_due_ns = now + options.ttft_ns;
    if (due_ns(a) <= now) {
        if (a->upto == a->n) return last(a);
        middle(a);
    }
    push(a, due_ns(a));
}

static void admit(struct replica *r) {
    if (r->admitting) return; /* an answer that ends at once calls again from below */
    r->admitting = true;
    while (r->n_waiting && r->n_running < options.max_running) {
        struct answer *a = r->waiting.after;
        unlink_answer(a);
        link_answer(a, &r->running);
        start_answer(a);
    }
    r->admitting = false;
}

static void run_due(int64_t now) {
    /* One event of every stream that is due; what is due again waits for the next turn, so that a
     * fast stream holds up neither the others nor new requests. */
    while (heap_n && heap[0].key_ns <= now) {
        struct answer *a = heap[0].answer;
        if (!a->connection) {
            pop();
            free(a);
        } else if (a->upto == a->n) {
            pop();
            last(a);
        } else {
            middle(a);
            int64_t key = due_ns(a);
            sift_down((struct due){key > now ? key : now + 1, a});
        }
    }
}

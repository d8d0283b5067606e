/* The heap: every answer that has another instant, the earliest first. Four children a node, for
 * half the cache misses of two; keys beside pointers, so that sifting touches no answer. */
#pragma once
#include "nouns.h"

static struct due { int64_t key_ns; struct answer *answer; } *heap;
static size_t heap_n, heap_room;

static void sift_down(struct due moved) { /* from the top */
    size_t at = 0;
    for (size_t child; (child = at * 4 + 1) < heap_n; at = child) {
        size_t last = child + 3 < heap_n ? child + 3 : heap_n - 1;
        for (size_t other = child + 1; other <= last; other++)
            if (heap[other].key_ns < heap[child].key_ns) child = other;
        if (heap[child].key_ns >= moved.key_ns) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void push(struct answer *a, int64_t key_ns) {
    heap = grown(heap, &heap_room, heap_n + 1, sizeof *heap);
    size_t at = heap_n++;
    for (; at && heap[(at - 1) / 4].key_ns > key_ns; at = (at - 1) / 4) heap[at] = heap[(at - 1) / 4];
    heap[at] = (struct due){key_ns, a};
    a->in_heap = true;
}

static void pop(void) {
    heap[0].answer->in_heap = false;
    if (--heap_n) sift_down(heap[heap_n]);
}

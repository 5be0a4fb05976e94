#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>

static struct waiter **heap; /* a parent is never due after its children */
static size_t length, room;

static void put(size_t place, struct waiter *waiter)
{
    heap[place] = waiter;
    waiter->place = place;
}

static void sift(size_t place, struct waiter *waiter)
{
    while (place > 0 && heap[(place - 1) / 2]->due > waiter->due) {
        put(place, heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * place + 1;
        if (child + 1 < length && heap[child + 1]->due < heap[child]->due)
            child++;
        if (child >= length || heap[child]->due >= waiter->due)
            break;
        put(place, heap[child]);
        place = child;
    }
    put(place, waiter);
}

void wait_until_due(struct waiter *waiter)
{
    if (length == room) {
        room = room ? 2 * room : 1024;
        heap = realloc(heap, room * sizeof *heap);
        if (heap == NULL) {
            perror("stub: realloc");
            exit(1);
        }
    }
    length++;
    sift(length - 1, waiter);
}

void wait_no_more(struct waiter *waiter)
{
    size_t place = waiter->place;
    if (place == NOT_WAITING)
        return;
    waiter->place = NOT_WAITING;
    struct waiter *last = heap[--length];
    if (last != waiter)
        sift(place, last);
}

struct waiter *first_due(void)
{
    return length > 0 ? heap[0] : NULL;
}

size_t waiting(void)
{
    return length;
}

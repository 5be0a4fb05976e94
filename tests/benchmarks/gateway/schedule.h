/* Which connection's next chunk is due first: a binary heap. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#define NOT_WAITING SIZE_MAX

/* Embedded as the first member of what waits. */
struct waiter {
    uint64_t due; /* CLOCK_MONOTONIC, ns; not to be changed while it waits */
    size_t place; /* NOT_WAITING when it does not wait */
};

void wait_until_due(struct waiter *waiter);
void wait_no_more(struct waiter *waiter);
/* The one that is due first, still waiting; NULL when none waits. */
struct waiter *first_due(void);
size_t waiting(void);

#endif

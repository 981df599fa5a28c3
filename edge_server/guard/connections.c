/* Connections: one record per descriptor.
 *
 * The table is reserved for every descriptor the process may have and takes memory only for
 * those in use. A record's generation grows with each client and each parking, so a token
 * of what is over never names what came after it.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static struct conn *table;
static size_t table_size, table_end;

bool conn_table_open(size_t descriptors) {
    if (table != NULL)
        return true;
    void *memory = mmap(NULL, descriptors * sizeof *table, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    table = memory;
    table_size = descriptors;
    return true;
}

/* The record of a client connection; NULL for any other descriptor. */
struct conn *conn_of(int fd) {
    if (fd < 0 || (size_t)fd >= table_size || table[fd].state == CONN_FREE)
        return NULL;
    return &table[fd];
}

int fd_of(const struct conn *c) {
    return (int)(c - table);
}

size_t conn_table_end(void) {
    return table_end;
}

/* Make the record of a descriptor that was just accepted; NULL if it is beyond the table. */
struct conn *conn_open(int fd, const struct sockaddr_in6 *peer) {
    if ((size_t)fd >= table_size)
        return NULL;
    struct conn *c = &table[fd];
    uint32_t generation = c->generation + 1;
    memset(c, 0, sizeof *c);
    c->generation = generation;
    c->peer = *peer;
    if ((size_t)fd >= table_end)
        table_end = (size_t)fd + 1;
    conn_enter(c, CONN_FRESH);
    return c;
}

void conn_enter(struct conn *c, enum conn_state state) {
    if (c->state != CONN_FREE)
        guard.counters.states[c->state]--;
    if (state != CONN_FREE)
        guard.counters.states[state]++;
    c->state = (uint8_t)state;
    c->since_ns = now_ns();
}

void conn_release(struct conn *c) {
    repeat_stop(c);
    plan_drop(c);
    fields_drop(c);
    repeat_want_not(c);
    free(c->input);
    free(c->head);
    c->input = c->head = NULL;
    if (guard.current == c)
        guard.current = NULL;
    conn_enter(c, CONN_FREE);
}

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

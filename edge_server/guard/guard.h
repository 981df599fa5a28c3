/* The guard: what stands between bjoern and the network.
 *
 * Process      a worker or the sidecar, single-threaded; every function runs in bjoern's loop.
 * Owns         one record per client connection, indexed by descriptor, and all I/O on it.
 * Never        calls Python from accept, read or write; only the tick and watchers do, with the GIL.
 *
 * bjoern keeps its own view of a connection (its Request, its ev_io); the guard decides what
 * bjoern reads, what becomes of what bjoern writes, and when a connection ends.
 */
#ifndef SVC_EDGE_GUARD_H
#define SVC_EDGE_GUARD_H

#include <ev.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "files.h"
#include "framing.h"

enum conn_state {
    CONN_FREE,   /* no client has this descriptor */
    CONN_FRESH,  /* accepted; nothing asked yet */
    CONN_HEAD,   /* part of a head has arrived */
    CONN_BODY,   /* the head is complete, its body is being discarded */
    CONN_BUSY,   /* bjoern has the request, or its answer is going out */
    CONN_PARKED, /* the request waits in the guard for somebody's resume */
    CONN_IDLE,   /* everything asked was answered */
    CONN_LINGER, /* answered for the last time; what still comes in is discarded */
    CONN_STATES
};

enum conn_phase {
    PHASE_HEAD, /* the answer's head has not gone out whole */
    PHASE_BODY, /* bjoern's own bytes follow */
    PHASE_PLAN, /* a file or a buffer follows that bjoern does not know */
};

#define ETAG_BYTES 80
#define CORR_ID_BYTES 64

/* A request whose answer is to be remembered, until that answer's head goes out. */
struct memo {
    unsigned kind;
    struct file *file;             /* held: what the answer was made from; NULL for none */
    int64_t until_ns;              /* how long it may be repeated; 0: as long as it is kept */
    size_t length;
    char etag[ETAG_BYTES];
    char request[];
};

enum plan_kind { PLAN_NONE, PLAN_FILE, PLAN_BUFFER };

struct plan {
    enum plan_kind kind;
    struct file *file;             /* held; NULL where the body is no file's */
    off_t offset;                  /* of the file's next piece */
    off_t asked;                   /* where the blocks end that this body has asked for */
    uint64_t left;                 /* bytes still to send, those in the buffer among them */
    char *buffer;                  /* read and not yet sent: [buffer_start, buffer_stop); owned */
    size_t buffer_start, buffer_stop;
    bool is_full;                  /* the socket took less than it was offered */
};

struct conn {
    struct ev_loop *loop;
    ev_io *watcher;                /* bjoern's, from ev_io_start until close */
    char *input;                   /* received and not yet used; NULL where there is none */
    char *head;                    /* the request while its body arrives or while it is parked */
    struct lingering *linger;
    size_t input_used, input_size, head_length;
    struct framing_scan scan;
    struct framing_chunked chunked;
    uint64_t request_left;         /* bytes of a request body of known length */
    uint64_t answer_left;          /* body bytes announced and not yet sent; ANSWER_OPEN if chunked */
    uint64_t answer_sent;          /* bytes of this answer that the kernel took */
    uint64_t pace_read;            /* of it, what the client had read at pace_ns */
    int64_t pace_ns;               /* when its pace was last judged */
    size_t answer_head_sent;
    size_t head_rest;              /* of a repeated answer: bytes of its head in `fields`; the rest is body */
    size_t own_length;             /* of the bytes that the application returned; SIZE_MAX: not known */
    struct plan plan;
    struct memo *memo;             /* owned; NULL where the answer is not to be remembered */
    ev_io own;                     /* of the guard's, while a repeated answer waits for the socket */
    char *fields;                  /* header lines for this answer besides bjoern's; owned */
    size_t fields_length;
    int64_t since_ns;              /* when the present state began; later by what it waited for a disk */
    int64_t cold_ns;               /* since when it waits for one */
    int64_t arrived_ns;            /* when the first byte of this request came */
    struct sockaddr_in6 peer;      /* large enough for both families */
    uint32_t generation;           /* counts the connections that had this descriptor, and what they parked */
    uint8_t state, phase;
    bool is_ending : 1;            /* bjoern is to see the end of file at its next read */
    bool wants_close : 1;          /* the client's request was its last */
    bool wants_linger : 1;
    bool is_head_request : 1;
    bool is_http10 : 1;
    bool is_chunked_request : 1;
    bool is_starved : 1;           /* what `input` holds is no whole request */
    bool is_parking : 1;
    bool is_resumed : 1;
    bool is_cut : 1;               /* its answer cannot be completed: reset, not closed */
    bool holds_less : 1;           /* the kernel keeps little of its answers unsent: there was a crowd */
    bool is_registered : 1;        /* libev has watched this descriptor since it was accepted */
    bool is_repeating : 1;         /* `own` is started, and bjoern's watcher rests */
    bool is_replay : 1;            /* bjoern has this request for the second time: it was parked */
    bool may_wait : 1;             /* reading the next bytes of this answer may wait for a disk */
    bool is_cold : 1;              /* the next bytes of its body are being read ahead; nothing watches it */
};

#define ANSWER_OPEN UINT64_MAX

struct guard_limits {
    struct framing_limits framing;
    int64_t header_ns, body_ns, idle_ns, parked_ns;
    uint64_t min_send_rate;        /* bytes a second */
    unsigned max_connections;
};

/* One answer that the guard gave itself, for metrics and log. */
struct refusal {
    int64_t arrived_ns, at_ns;
    struct sockaddr_in6 peer;
    int status;
    const char *reason;
    char corr_id[132];
};

#define REFUSALS_KEPT 256

/* Refusals of one kind that had to make room before Python asked for them. */
struct refusals_lost {
    const char *reason;
    int status;
    uint64_t count;
};

#define REFUSAL_KINDS 16

struct guard_counters {
    uint64_t accepted, requests, refused, cut, parks, replays;
    uint64_t timed_out_head, timed_out_body, timed_out_send, timed_out_idle;
    uint64_t body_bytes_in, bytes_out, paused_accepts, bad_answers, write_errors;
    unsigned states[CONN_STATES];
};

struct guard {
    struct ev_loop *loop;
    ev_io *listener;
    bool is_paused, is_stopped, is_closing;
    struct guard_limits limits;
    struct guard_counters counters;
    struct refusal refusals[REFUSALS_KEPT];
    uint64_t refusals_start, refusals_end; /* refusals[k % REFUSALS_KEPT] are still to be told */
    struct refusals_lost lost[REFUSAL_KINDS];
    struct conn *current;          /* whose request bjoern is answering */
    size_t head_length;
    const char *raw;               /* that request's head as it came; only while its application runs */
    size_t raw_length;             /* 0 where it is not known, or the request has content */
    char corr_prefix[32];
    uint64_t corr_count;
};

extern struct guard guard;

/* connections.c */
bool conn_table_open(size_t descriptors);
struct conn *conn_of(int fd);
int fd_of(const struct conn *c);
struct conn *conn_open(int fd, const struct sockaddr_in6 *peer);
void conn_enter(struct conn *c, enum conn_state state);
void conn_release(struct conn *c);
size_t conn_table_end(void);
int64_t now_ns(void);

/* receiving.c */
#define HEAD_BYTES (64 * 1024)
extern char guard_head[HEAD_BYTES];
ssize_t guard_read(int fd, void *buffer, size_t size);
void guard_refuse(struct conn *c, int status, const char *reason, const char *corr_id, size_t corr_id_length);

/* sending.c */
ssize_t guard_write(int fd, const void *buffer, size_t length);
ssize_t guard_sendfile(int fd, int file, off_t *offset, size_t count);
enum sending { SENDING_DONE, SENDING_WAITS, SENDING_FAILED };
extern const char ENDING_KEEP[], ENDING_CLOSE[]; /* the Connection field and the end of a head */
enum sending plan_send(struct conn *c);
struct iovec plan_small_body(const struct plan *plan);
void plan_advance(struct conn *c, size_t of_body);
void account(struct conn *c, size_t body);
void mind_the_crowd(struct conn *c);
bool answer_finish(struct conn *c);
void answer_begin(struct conn *c);
enum reading plan_file(struct conn *c, struct file *file, off_t offset, size_t length);
bool plan_buffer(struct conn *c, const void *bytes, size_t length);
void plan_drop(struct conn *c);
bool fields_keep(struct conn *c, const char *lines, size_t length);
void fields_drop(struct conn *c);
size_t own_answer(char *out, size_t size, int status, const char *reason, const char *corr_id, bool has_body);
void corr_id_new(char *out, size_t size);

/* accepting.c */
int guard_accept(int listener, struct sockaddr *address, socklen_t *length);
int guard_close(int fd);
void guard_start(struct ev_loop *loop, ev_io *watcher);
void guard_stop(struct ev_loop *loop, ev_io *watcher);
int guard_fprintf(FILE *stream, const char *format, ...);
void accept_pause(void);
void accept_resume(void);
void wait_readable(struct conn *c);
void wait_writable(struct conn *c);
void end_soon(struct conn *c);
bool has_unread(const struct conn *c);

/* repeating.c */
#define REPEAT_KINDS 16
#define REPEAT_BOUNDS 16

/* Repeated answers of one kind since Python last asked. */
struct repeated {
    uint64_t within[REPEAT_BOUNDS + 1]; /* by latency: within which bound, the last one beyond all */
    uint64_t bytes;
    int64_t latency_ns;
};

struct repeat_sample {
    unsigned kind;
    struct sockaddr_in6 peer;
    int64_t latency_ns;
    uint64_t bytes;
    char corr_id[CORR_ID_BYTES], etag[ETAG_BYTES];
};

enum repeat { REPEAT_NO, REPEAT_DONE, REPEAT_WAITS, REPEAT_ENDS };

bool repeat_configure(unsigned kinds, const int64_t *bounds_ns, unsigned bounds, unsigned sample_every);
unsigned repeat_kinds(void);
unsigned repeat_bounds(void);
struct repeated *repeat_counts(unsigned kind);
const struct repeat_sample *repeat_samples(size_t *count);
bool repeat_want(struct conn *c, unsigned kind, const char *etag, size_t etag_length, struct file *file,
                 int64_t for_ns);
void repeat_want_not(struct conn *c);
void repeat_remember(struct conn *c, const char *lines, size_t lines_length, const char *body, size_t own);
enum repeat repeat_try(struct conn *c, const char *in, size_t n, size_t *used);
void repeat_stop(struct conn *c);
void repeat_pause(struct conn *c);
bool repeat_is_enough(unsigned answers);
void repeat_forget_file(struct file *file);
void repeat_forget_all(void);

/* cold.c */
#define COLD_KEPT 256

/* A span that is to be read ahead: by whom it is waited for, and what must be read. */
struct cold {
    uint64_t token;                /* for cold_go_on; 0 where nobody waits */
    struct file *file;             /* held */
    off_t offset;
    uint64_t length;
};

void cold_listen(void (*told)(void));
const struct cold *cold_spans(size_t *count);
bool cold_wait(struct conn *c);
bool cold_go_on(uint64_t token, bool may_wait);
bool cold_give_up(uint64_t token);
uint64_t token_of(const struct conn *c);
struct conn *conn_of_token(uint64_t token);

/* pressing.c */
enum pressure { PRESSURE_ROOM = 1, PRESSURE_LATE = 2, PRESSURE_REPLAY = 4 };

void turns_watch(struct ev_loop *loop);
enum pressure pressure_on(struct conn *c);
bool is_pressed(struct conn *c);
void pressure_set(unsigned room, int64_t patience_ns, int64_t interval_ns);
bool is_shedding(void);
int64_t take_least_wait(void);

/* sweeping.c */
void sweep_start(struct ev_loop *loop);
void hang_up(struct conn *c);
void linger_begin(struct conn *c);
void linger_end(struct conn *c);

/* module.c */
void guard_tick(void);
struct conn *answering(void);

/* hooks.c: NULL, or what is wrong. */
const char *hooks_install(void *function_of_bjoern);

#endif

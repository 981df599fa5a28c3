/* Framing: which bytes of a connection are one request, and whether it may reach bjoern.
 *
 * Specification  RFC 9112 (HTTP/1.1), RFC 9110 (fields), RFC 3986 (targets, hosts).
 * Owns           nothing: no Python, no I/O, no allocation, no state but what the caller passes.
 * Output         one request head in normal form: HTTP/1.1, origin-form (or "*"), no field that
 *                frames or closes, no field twice, no optional whitespace but one space.
 * Threads        every function is reentrant.
 */
#ifndef SVC_EDGE_FRAMING_H
#define SVC_EDGE_FRAMING_H

#include <stddef.h>
#include <stdint.h>

enum framing_status { FRAMING_MORE, FRAMING_DONE, FRAMING_REFUSED };

enum framing_reason {
    FRAMING_OK,
    FRAMING_BAD_REQUEST,     /* 400 */
    FRAMING_URI_CAP,         /* 414 */
    FRAMING_HEADER_CAP,      /* 431 */
    FRAMING_BODY_CAP,        /* 413 */
    FRAMING_EXPECTATION,     /* 417 */
    FRAMING_NOT_IMPLEMENTED, /* 501 */
    FRAMING_HTTP_VERSION,    /* 505 */
    FRAMING_METHOD,          /* 405 */
    FRAMING_REASONS,         /* how many there are */
};

/* `out` must have room for limits.head_bytes + FRAMING_GROWTH; framing.c proves the bound.
 * A head in normal form always fits one read of bjoern, whose buffer is 64 KiB. */
#define FRAMING_GROWTH 4
#define FRAMING_MAX_HEAD (65536 - FRAMING_GROWTH)
#define FRAMING_MAX_FIELDS 128

struct framing_limits {
    size_t head_bytes;   /* request line to blank line, and empty lines before it; at most FRAMING_MAX_HEAD */
    size_t target_bytes; /* the request target as sent */
    unsigned fields;     /* field lines; at most FRAMING_MAX_FIELDS */
    uint64_t body_bytes; /* content, without chunk framing */
};

/* How far a head was looked at. All zero before the first byte of each request. */
struct framing_scan {
    size_t scanned; /* bytes looked at */
    size_t line;    /* where the line that is still arriving starts */
    unsigned lines; /* complete lines of the head: the request line and fields */
};

struct framing_span {
    size_t start, stop;
};

struct framing_head {
    size_t consumed;         /* bytes of input that the head took; 0 while its end has not been seen */
    size_t length;           /* bytes written to `out`; 0 unless FRAMING_DONE */
    uint64_t content_length; /* 0 without the field, and with chunked */
    struct framing_span corr_id; /* in the input: X-Corr-ID if it may be echoed, else empty */
    enum framing_reason reason;
    unsigned is_http10 : 1;
    unsigned is_head : 1;          /* HEAD: the answer has no content */
    unsigned wants_close : 1;      /* no request may follow on this connection */
    unsigned expects_continue : 1; /* and content will follow */
    unsigned is_chunked : 1;
};

/* Look for one request head at the start of `in`.
 *
 * Call again with the same, longer `in` and the same `scan` while the answer is FRAMING_MORE.
 * However a head is cut into calls, its bytes are looked at a bounded number of times and the
 * answer is the same. FRAMING_MORE is never said of limits->head_bytes bytes or more.
 *
 * FRAMING_DONE     `out` holds the head in normal form; every member of `head` is set.
 * FRAMING_REFUSED  head->reason says why. If head->consumed is not 0, the head was complete and
 *                  well formed line by line; is_head, is_http10 and corr_id are then set too.
 *
 * `in` and `out` must not overlap.
 */
enum framing_status framing_head(const char *in, size_t in_length, struct framing_scan *scan,
                                 const struct framing_limits *limits, char *out, size_t out_size,
                                 struct framing_head *head);

/* A chunked body (RFC 9112 section 7.1) that is counted and thrown away. */
struct framing_chunked {
    uint64_t total; /* content bytes announced so far, this chunk included */
    uint64_t chunk; /* bytes of this chunk that are still to come */
    uint32_t extra; /* bytes of extensions, then of trailers */
    uint8_t digits; /* of this chunk's size */
    uint8_t state;
    enum framing_reason reason;
};

void framing_chunked_init(struct framing_chunked *chunked);

/* Take bytes of a chunked body. `*consumed` is how many of `in` belong to it: all of them, unless the body
 * ends (FRAMING_DONE) or is refused (chunked->reason says why). */
enum framing_status framing_chunked(struct framing_chunked *chunked, const char *in, size_t length, size_t *consumed,
                                    uint64_t body_cap);

/* The word of X-Reason and the metrics, and the status it is answered with ("ok" and 200 for FRAMING_OK). */
const char *framing_reason_name(enum framing_reason reason);
int framing_reason_status(enum framing_reason reason);

#endif

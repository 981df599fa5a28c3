/* What bjoern's application would see of a head: its own http_parser and unquote_url_inplace, driven as request.c does. */
#ifndef BJOERN_VIEW_H
#define BJOERN_VIEW_H

#include <stdbool.h>
#include <stddef.h>

struct view_field {
    char name[256]; /* as in the environ: upper case, "_" for "-", without "HTTP_" */
    char value[4096];
    size_t length;
};

struct view {
    char method[16];
    char path[4096], query[4096]; /* the path decoded */
    size_t path_length, query_length, field_count;
    bool keeps_alive, is_http11;
    unsigned completed; /* messages */
    bool overflow;      /* more than this struct holds */
    struct view_field fields[160];
};

/* Returns whether bjoern takes every byte, and they are exactly one request without a body. */
bool view_parse(const char *head, size_t length, struct view *view);

#endif

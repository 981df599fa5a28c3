#include "bjoern_view.h"

#include <http_parser.h>
#include <stdlib.h>
#include <string.h>

#include "unquote.inc"

static bool starts_field = true, is_invalid;

static void append(char *to, size_t *length, size_t room, const char *at, size_t size, struct view *view)
{
    if (*length + size > room)
        view->overflow = true;
    else {
        memcpy(to + *length, at, size);
        *length += size;
    }
}

static int on_path(http_parser *parser, const char *at, size_t length)
{
    struct view *const view = parser->data;
    if (!(length = unquote_url_inplace((char *)at, length)))
        return 1;
    append(view->path, &view->path_length, sizeof view->path, at, length, view);
    return 0;
}

static int on_query(http_parser *parser, const char *at, size_t length)
{
    struct view *const view = parser->data;
    append(view->query, &view->query_length, sizeof view->query, at, length, view);
    return 0;
}

static int on_field(http_parser *parser, const char *at, size_t length)
{
    struct view *const view = parser->data;
    if (!starts_field)
        abort(); /* two pieces of one name: the head was cut */
    starts_field = false;
    is_invalid = memchr(at, '_', length) != NULL;
    if (view->field_count == 160 || length >= sizeof view->fields->name) {
        view->overflow = is_invalid = true;
        return 0;
    }
    struct view_field *const field = &view->fields[view->field_count];
    for (size_t i = 0; i < length; i++)
        field->name[i] = at[i] == '-' ? '_' : at[i] >= 'a' && at[i] <= 'z' ? (char)(at[i] - 32) : at[i];
    field->name[length] = '\0';
    field->length = 0;
    return 0;
}

static int on_value(http_parser *parser, const char *at, size_t length)
{
    struct view *const view = parser->data;
    if (starts_field)
        abort();
    starts_field = true;
    if (is_invalid)
        return 0;
    struct view_field *const field = &view->fields[view->field_count++];
    append(field->value, &field->length, sizeof field->value, at, length, view);
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t length)
{
    (void)parser, (void)at, (void)length;
    abort();
}

static int on_complete(http_parser *parser)
{
    struct view *const view = parser->data;
    view->completed++;
    view->keeps_alive = http_should_keep_alive(parser);
    view->is_http11 = parser->http_major == 1 && parser->http_minor == 1;
    strcpy(view->method, http_method_str(parser->method));
    return 0;
}

bool view_parse(const char *head, size_t length, struct view *view)
{
    static const http_parser_settings settings = {NULL, on_path, on_query, NULL, NULL, on_field, on_value, NULL, on_body, on_complete};
    http_parser parser;
    char *const copy = malloc(length); /* unquoted in place */
    memcpy(copy, head, length);
    memset(view, 0, offsetof(struct view, fields));
    starts_field = true;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = view;
    const size_t parsed = http_parser_execute(&parser, &settings, copy, length);
    free(copy);
    return parsed == length && view->completed == 1 && view->keeps_alive && view->is_http11 && !parser.upgrade;
}

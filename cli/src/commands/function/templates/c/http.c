// What http.h promises, by the canonical ABI of the component model:
// https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md
#include "http.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(interface, function) \
    __attribute__((__import_module__("wasi:" interface "@0.2.10"), __import_name__(function)))
#define TYPES(function) IMPORT("http/types", function)
#define STREAMS(function) IMPORT("io/streams", function)

typedef int32_t handle_t; // of a resource

struct text {
    char *data;
    size_t length;
};
struct optional_text {
    uint8_t some;
    struct text text;
};
struct method {
    uint8_t which;
    struct text other;
};
struct handle_result {
    uint8_t failed;
    handle_t handle;
};
struct read_result {
    uint8_t failed;
    struct text data; // of a failure: which, and the handle of the error
};
struct write_result {
    uint8_t failed;
    uint32_t which;
    handle_t error;
};
struct header_list {
    struct http_header *headers;
    size_t count;
};

TYPES("[method]incoming-request.method") void request_method(handle_t, struct method *);
TYPES("[method]incoming-request.path-with-query") void request_path(handle_t, struct optional_text *);
TYPES("[method]incoming-request.headers") handle_t request_headers(handle_t);
TYPES("[method]incoming-request.consume") void request_consume(handle_t, struct handle_result *);
TYPES("[method]incoming-body.stream") void body_stream(handle_t, struct handle_result *);
TYPES("[method]fields.entries") void fields_entries(handle_t, struct header_list *);
TYPES("[static]fields.from-list") void fields_from_list(const struct http_header *, size_t, struct handle_result *);
TYPES("[constructor]fields") handle_t fields_new(void);
TYPES("[constructor]outgoing-response") handle_t response_new(handle_t fields);
TYPES("[method]outgoing-response.set-status-code") int32_t response_set_status(handle_t, int32_t);
TYPES("[method]outgoing-response.body") void response_body(handle_t, struct handle_result *);
TYPES("[method]outgoing-body.write") void body_write(handle_t, struct handle_result *);
TYPES("[static]outgoing-body.finish") void body_finish(handle_t, int32_t, handle_t, void *);
TYPES("[static]response-outparam.set")
void answer(handle_t, int32_t failed, int32_t, int32_t, int64_t, int32_t, int32_t, int32_t, int32_t);
TYPES("[resource-drop]incoming-request") void drop_request(handle_t);
TYPES("[resource-drop]incoming-body") void drop_body(handle_t);
TYPES("[resource-drop]fields") void drop_fields(handle_t);
STREAMS("[method]input-stream.blocking-read") void stream_read(handle_t, int64_t, struct read_result *);
STREAMS("[method]output-stream.blocking-write-and-flush")
void stream_write(handle_t, const char *, size_t, struct write_result *);
STREAMS("[resource-drop]input-stream") void drop_input(handle_t);
STREAMS("[resource-drop]output-stream") void drop_output(handle_t);
IMPORT("io/error", "[resource-drop]error") void drop_error(handle_t);

// Where the host puts what it gives. Each piece ends with a zero byte more, so that text is a C string.
__attribute__((__export_name__("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)old_size;
    (void)align; // malloc's suffices for all that is here
    char *made = realloc(old, size + 1);
    if (!made) abort();
    made[size] = 0;
    return made;
}

struct http_response {
    uint16_t status;
    struct http_header *headers;
    size_t header_count;
    char *body;
    size_t body_length, body_capacity;
};

static void *grown(void *old, size_t size) {
    void *made = realloc(old, size);
    if (!made) abort();
    return made;
}

static char *copy(const char *text) {
    char *made = strdup(text);
    if (!made) abort();
    return made;
}

const char *http_header(const struct http_request *request, const char *name) {
    for (size_t i = 0; i < request->header_count; i++)
        if (!strcmp(request->headers[i].name, name)) return request->headers[i].value;
    return NULL;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool http_query(const struct http_request *request, const char *name, char *value, size_t size) {
    size_t length = strlen(name);
    for (const char *at = request->query; *at; at += *at == '&') {
        const char *end = at + strcspn(at, "&");
        if (!strncmp(at, name, length) && (at[length] == '=' || at + length == end)) {
            size_t used = 0;
            for (at += length + (at[length] == '='); at < end && used + 1 < size; at++) {
                char c = *at == '+' ? ' ' : *at;
                if (*at == '%' && end - at > 2 && hex(at[1]) >= 0 && hex(at[2]) >= 0) {
                    c = (char)(hex(at[1]) << 4 | hex(at[2]));
                    at += 2;
                }
                value[used++] = c;
            }
            if (size) value[used] = 0;
            return true;
        }
        at = end;
    }
    return false;
}

void http_set_status(struct http_response *response, uint16_t status) { response->status = status; }

void http_set_header(struct http_response *response, const char *name, const char *value) {
    size_t count = response->header_count++;
    response->headers = grown(response->headers, (count + 1) * sizeof *response->headers);
    response->headers[count] = (struct http_header){copy(name), strlen(name), copy(value), strlen(value)};
}

void http_write(struct http_response *response, const void *data, size_t length) {
    if (!length) return;
    if (response->body_length + length > response->body_capacity) {
        response->body_capacity = 2 * (response->body_length + length);
        response->body = grown(response->body, response->body_capacity);
    }
    memcpy(response->body + response->body_length, data, length);
    response->body_length += length;
}

void http_printf(struct http_response *response, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length > 0) {
        char *text = grown(NULL, (size_t)length + 1);
        vsnprintf(text, (size_t)length + 1, format, arguments);
        http_write(response, text, (size_t)length);
        free(text);
    }
    va_end(arguments);
}

static handle_t expect(struct handle_result result) {
    if (result.failed) abort();
    return result.handle;
}

// All of the body, as far as it came.
static struct text read_body(handle_t request) {
    struct handle_result result;
    struct text all = {grown(NULL, 1), 0};
    request_consume(request, &result);
    handle_t body = expect(result);
    body_stream(body, &result);
    handle_t stream = expect(result);
    for (;;) {
        struct read_result read;
        stream_read(stream, 65536, &read);
        if (read.failed) {
            // 0 is a failure with an error, 1 the end.
            if (*(uint8_t *)&read.data.data == 0) drop_error((handle_t)read.data.length);
            break;
        }
        all.data = grown(all.data, all.length + read.data.length + 1);
        memcpy(all.data + all.length, read.data.data, read.data.length);
        all.length += read.data.length;
        free(read.data.data);
    }
    all.data[all.length] = 0;
    drop_input(stream);
    drop_body(body);
    return all;
}

static void send(handle_t out, const struct http_response *made) {
    struct handle_result result;
    handle_t fields;
    fields_from_list(made->headers, made->header_count, &result);
    // A header that HTTP does not allow: the answer goes without any, as a failure.
    fields = result.failed ? fields_new() : result.handle;
    handle_t response = response_new(fields);
    response_set_status(response, result.failed ? 500 : made->status);
    response_body(response, &result);
    handle_t body = expect(result);
    answer(out, 0, response, 0, 0, 0, 0, 0, 0);

    body_write(body, &result);
    handle_t stream = expect(result);
    for (size_t at = 0; at < made->body_length;) {
        // A stream takes at most 4096 bytes at once.
        size_t length = made->body_length - at < 4096 ? made->body_length - at : 4096;
        struct write_result written;
        stream_write(stream, made->body + at, length, &written);
        if (written.failed) {
            // Nobody reads it any more.
            if ((written.which & 0xff) == 0) drop_error(written.error);
            break;
        }
        at += length;
    }
    drop_output(stream);
    _Alignas(8) uint8_t finished[40];
    body_finish(body, 0, 0, finished);
}

__attribute__((__export_name__("wasi:http/incoming-handler@0.2.10#handle"))) void http_handle(handle_t in, handle_t out) {
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    struct method method;
    struct optional_text path;
    struct header_list headers;

    request_method(in, &method);
    request_path(in, &path);
    handle_t fields = request_headers(in);
    fields_entries(fields, &headers);
    drop_fields(fields);
    struct text body = read_body(in);
    drop_request(in);

    char *target = path.some ? path.text.data : copy("/");
    char *query = strchr(target, '?');
    if (query) *query++ = 0;
    struct http_request request = {
        .method = method.which < 9 ? methods[method.which] : method.other.data,
        .path = target,
        .query = query ? query : "",
        .headers = headers.headers,
        .header_count = headers.count,
        .body = body.data,
        .body_length = body.length,
    };
    struct http_response response = {.status = 200};
    handle(&request, &response);
    send(out, &response);

    for (size_t i = 0; i < headers.count; i++) {
        free((char *)headers.headers[i].name);
        free((char *)headers.headers[i].value);
    }
    for (size_t i = 0; i < response.header_count; i++) {
        free((char *)response.headers[i].name);
        free((char *)response.headers[i].value);
    }
    if (method.which == 9) free(method.other.data);
    free(headers.headers);
    free(response.headers);
    free(response.body);
    free(body.data);
    free(target);
}

// HTTP for functions in C, over wasi:http of WASI 0.2. Edit it as you like: it is yours.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One header. Names are in lower case; name and value end with a zero byte, which the lengths don't count.
struct http_header {
    const char *name;
    size_t name_length;
    const char *value;
    size_t value_length;
};

// What was asked. It lives until the handler returns.
struct http_request {
    const char *method; // GET, POST, …
    const char *path;   // without the query
    const char *query;  // what follows the ?, or ""
    const struct http_header *headers;
    size_t header_count;
    const char *body; // ends with a zero byte too
    size_t body_length;
};

struct http_response;

// Write this one; it is called once a request.
void handle(const struct http_request *request, struct http_response *response);

// The value of a header, or NULL. The name is in lower case.
const char *http_header(const struct http_request *request, const char *name);

// Copies a value out of the query, decoded; false if it is not there. One that is too long is cut.
bool http_query(const struct http_request *request, const char *name, char *value, size_t size);

// 200 unless it is set.
void http_set_status(struct http_response *response, uint16_t status);

// Adds a header.
void http_set_header(struct http_response *response, const char *name, const char *value);

// Append to the answer's body.
void http_write(struct http_response *response, const void *data, size_t length);
void http_printf(struct http_response *response, const char *format, ...) __attribute__((format(printf, 2, 3)));

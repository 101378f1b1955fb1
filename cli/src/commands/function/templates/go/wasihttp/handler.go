// Package wasihttp serves an http.Handler over wasi:http of WASI 0.2. Edit it as you like: it is yours.
package wasihttp

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

var handler http.Handler = http.NotFoundHandler()

// Handle sets what answers requests. Call it in an init function.
func Handle(h http.Handler) { handler = h }

//go:wasmexport wasi:http/incoming-handler@0.2.10#handle
func handle(in, out int32) {
	defer release()
	request, body, err := read(in)
	answer := &response{out: out, header: http.Header{}}
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
	} else {
		handler.ServeHTTP(answer, request)
		body.Close()
	}
	answer.finish()
}

// read makes a request of what the host has; its body is read as it comes.
func read(in int32) (*http.Request, *body, error) {
	method, target, headers := requestLine(in)
	body := openBody(in)
	dropRequest(in)
	request, err := http.NewRequest(method, target, body)
	if err != nil {
		return nil, body, err
	}
	request.RequestURI = target
	for _, header := range headers {
		request.Header.Add(header[0], header[1])
	}
	request.Host = request.Header.Get("Host")
	request.Header.Del("Host")
	request.ContentLength = -1
	if length := request.Header.Get("Content-Length"); length != "" {
		fmt.Sscan(length, &request.ContentLength)
	}
	return request, body, nil
}

// response is an http.ResponseWriter; what is flushed goes out at once.
type response struct {
	out      int32
	header   http.Header
	status   int
	begun    bool
	body     int32
	stream   int32
	buffered bytes.Buffer
}

// As much as a stream takes at once.
const most = 4096

func (r *response) Header() http.Header { return r.header }

func (r *response) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *response) Write(data []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.buffered.Write(data)
	if r.buffered.Len() < most {
		return len(data), nil
	}
	return len(data), r.flush()
}

// Flush implements http.Flusher.
func (r *response) Flush() { _ = r.flush() }

func (r *response) flush() error {
	r.begin()
	for r.buffered.Len() > 0 {
		if !write(r.stream, r.buffered.Next(most)) {
			r.buffered.Reset()
			return io.ErrClosedPipe
		}
	}
	return nil
}

// begin sends the status and the headers, once.
func (r *response) begin() {
	if r.begun {
		return
	}
	r.begun = true
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.header.Get("Content-Type") == "" && r.buffered.Len() > 0 {
		r.header.Set("Content-Type", http.DetectContentType(r.buffered.Bytes()))
	}
	var fields [][2]string
	for name, values := range r.header {
		for _, value := range values {
			fields = append(fields, [2]string{strings.ToLower(name), value})
		}
	}
	var err error
	if r.body, r.stream, err = begin(r.out, r.status, fields); err != nil {
		// The answer goes without its headers, as a failure.
		fmt.Fprintln(os.Stderr, "wasihttp:", err)
		r.body, r.stream, _ = begin(r.out, http.StatusInternalServerError, nil)
	}
}

func (r *response) finish() {
	r.flush()
	finish(r.body, r.stream)
}

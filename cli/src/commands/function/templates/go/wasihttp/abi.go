package wasihttp

// What the host offers, by the canonical ABI of the component model:
// https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"unsafe"
)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.method
func requestMethod(request int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.path-with-query
func requestPath(request int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.headers
func requestHeaders(request int32) int32

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.consume
func requestConsume(request int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [resource-drop]incoming-request
func dropRequest(request int32)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-body.stream
func bodyStream(body int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [resource-drop]incoming-body
func dropBody(body int32)

//go:wasmimport wasi:http/types@0.2.10 [method]fields.entries
func fieldsEntries(fields int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [static]fields.from-list
func fieldsFromList(list unsafe.Pointer, count uint32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [resource-drop]fields
func dropFields(fields int32)

//go:wasmimport wasi:http/types@0.2.10 [constructor]outgoing-response
func newResponse(fields int32) int32

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-response.set-status-code
func setStatus(response int32, status uint32) int32

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-response.body
func responseBody(response int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [static]response-outparam.set
func setAnswer(out, failed, response, _ int32, _ int64, _, _, _, _ int32)

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-body.write
func bodyWrite(body int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [static]outgoing-body.finish
func bodyFinish(body, hasTrailers, trailers int32, into unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.10 [method]input-stream.blocking-read
func streamRead(stream int32, most uint64, into unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.10 [resource-drop]input-stream
func dropInput(stream int32)

//go:wasmimport wasi:io/streams@0.2.10 [method]output-stream.blocking-write-and-flush
func streamWrite(stream int32, data unsafe.Pointer, length uint32, into unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.10 [resource-drop]output-stream
func dropOutput(stream int32)

//go:wasmimport wasi:io/error@0.2.10 [resource-drop]error
func dropError(err int32)

// What a call gives goes here: a global, since a goroutine's stack may move while the host writes.
var area struct {
	_    [0]uint64
	data [48]byte
}

func into() unsafe.Pointer { return unsafe.Pointer(&area) }

func byteAt(offset uintptr) byte { return *(*byte)(unsafe.Add(into(), offset)) }

func wordAt(offset uintptr) uint32 { return *(*uint32)(unsafe.Add(into(), offset)) }

// handleOrPanic is the resource of a result; a failure would be a mistake of this package.
func handleOrPanic(what string) int32 {
	if byteAt(0) != 0 {
		panic("wasihttp: " + what + " was refused")
	}
	return int32(wordAt(4))
}

// What the host has put into memory, so that it is not collected before it is read.
var kept [][]uint64

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, _, size uint32) unsafe.Pointer {
	// Words, for the alignment that anything needs.
	made := make([]uint64, size/8+1)
	kept = append(kept, made)
	at := unsafe.Pointer(&made[0])
	if old != nil {
		copy(unsafe.Slice((*byte)(at), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return at
}

func release() { kept = nil }

func pointer(address uint32) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), address) }

func at(address, length uint32) string {
	if length == 0 {
		return ""
	}
	return strings.Clone(unsafe.String((*byte)(pointer(address)), length))
}

var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func requestLine(request int32) (method, target string, headers [][2]string) {
	requestMethod(request, into())
	if which := int(byteAt(0)); which < len(methods) {
		method = methods[which]
	} else {
		method = at(wordAt(4), wordAt(8))
	}
	target = "/"
	if requestPath(request, into()); byteAt(0) == 1 {
		target = at(wordAt(4), wordAt(8))
	}
	fields := requestHeaders(request)
	fieldsEntries(fields, into())
	list, count := wordAt(0), wordAt(4)
	for i := range count {
		entry := (*[4]uint32)(pointer(list + 16*i))
		headers = append(headers, [2]string{at(entry[0], entry[1]), at(entry[2], entry[3])})
	}
	dropFields(fields)
	release()
	return method, target, headers
}

// body is the request's, read as it comes.
type body struct {
	body, stream int32
	closed       bool
}

func openBody(request int32) *body {
	requestConsume(request, into())
	opened := handleOrPanic("the request's body")
	bodyStream(opened, into())
	return &body{body: opened, stream: handleOrPanic("the body's stream")}
}

func (b *body) Read(data []byte) (int, error) {
	if b.closed {
		return 0, errors.New("wasihttp: read of a closed body")
	}
	if len(data) == 0 {
		return 0, nil
	}
	streamRead(b.stream, uint64(min(len(data), 1<<16)), into())
	if byteAt(0) != 0 {
		if byteAt(4) == 1 {
			return 0, io.EOF
		}
		dropError(int32(wordAt(8)))
		return 0, io.ErrUnexpectedEOF
	}
	read := copy(data, at(wordAt(4), wordAt(8)))
	release()
	return read, nil
}

func (b *body) Close() error {
	if !b.closed {
		b.closed = true
		dropInput(b.stream)
		dropBody(b.body)
	}
	return nil
}

// begin answers with a status and headers; the body and its stream are to be finished.
func begin(out int32, status int, headers [][2]string) (body, stream int32, err error) {
	list := make([][4]uint32, len(headers)+1)
	for i, header := range headers {
		for j, text := range header {
			list[i][2*j] = uint32(uintptr(unsafe.Pointer(unsafe.StringData(text))))
			list[i][2*j+1] = uint32(len(text))
		}
	}
	fieldsFromList(unsafe.Pointer(&list[0]), uint32(len(headers)), into())
	runtime.KeepAlive(headers)
	if byteAt(0) != 0 {
		return 0, 0, errors.New("a header of the answer is not allowed")
	}
	response := newResponse(int32(wordAt(4)))
	setStatus(response, uint32(status))
	responseBody(response, into())
	body = handleOrPanic("the answer's body")
	setAnswer(out, 0, response, 0, 0, 0, 0, 0, 0)
	bodyWrite(body, into())
	return body, handleOrPanic("the answer's stream"), nil
}

// write sends at most 4096 bytes; false if nobody reads them any more.
func write(stream int32, data []byte) bool {
	streamWrite(stream, unsafe.Pointer(&data[0]), uint32(len(data)), into())
	runtime.KeepAlive(data)
	if byteAt(0) == 0 {
		return true
	}
	if byteAt(4) == 0 {
		dropError(int32(wordAt(8)))
	}
	return false
}

func finish(body, stream int32) {
	dropOutput(stream)
	bodyFinish(body, 0, 0, into())
}

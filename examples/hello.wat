;; Hello: an HTTP server in readable WebAssembly text. wk runs this file as it is:
;;
;;     image: file://examples/hello.wat
;;
;; It exports wasi:http/incoming-handler and answers every request with `Hello from <HOSTNAME>`;
;; HOSTNAME is the pod's name, so one sees a Service's pods take turns. Nobody writes components like
;; this for a living (docs/components.md shows Rust, C, Go, JavaScript and Python), but it needs no tools,
;; and it shows all that is in one: imports with their types, a core module, and how the two meet.
(component
  ;; What the world outside gives.
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (export "error" (type $io-error-type (eq $error)))
    (type $stream-error-type (variant (case "last-operation-failed" (own $io-error-type)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-type)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:http/types@0.2.0" (instance $http
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $incoming-request (sub resource)))
    (export "outgoing-response" (type $outgoing-response (sub resource)))
    (export "outgoing-body" (type $outgoing-body (sub resource)))
    (export "response-outparam" (type $response-outparam (sub resource)))
    (export "output-stream" (type $body-stream (eq $output-stream)))
    (type $header-error-type (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $header-error-type)))
    (type $dns-error-payload-type (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns-error-payload (eq $dns-error-payload-type)))
    (type $tls-alert-type (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls-alert (eq $tls-alert-type)))
    (type $field-size-type (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field-size (eq $field-size-type)))
    (type $error-code-type (variant
      (case "DNS-timeout")
      (case "DNS-error" $dns-error-payload)
      (case "destination-not-found")
      (case "destination-unavailable")
      (case "destination-IP-prohibited")
      (case "destination-IP-unroutable")
      (case "connection-refused")
      (case "connection-terminated")
      (case "connection-timeout")
      (case "connection-read-timeout")
      (case "connection-write-timeout")
      (case "connection-limit-reached")
      (case "TLS-protocol-error")
      (case "TLS-certificate-error")
      (case "TLS-alert-received" $tls-alert)
      (case "HTTP-request-denied")
      (case "HTTP-request-length-required")
      (case "HTTP-request-body-size" (option u64))
      (case "HTTP-request-method-invalid")
      (case "HTTP-request-URI-invalid")
      (case "HTTP-request-URI-too-long")
      (case "HTTP-request-header-section-size" (option u32))
      (case "HTTP-request-header-size" (option $field-size))
      (case "HTTP-request-trailer-section-size" (option u32))
      (case "HTTP-request-trailer-size" $field-size)
      (case "HTTP-response-incomplete")
      (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $field-size)
      (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32))
      (case "HTTP-response-trailer-size" $field-size)
      (case "HTTP-response-transfer-coding" (option string))
      (case "HTTP-response-content-coding" (option string))
      (case "HTTP-response-timeout")
      (case "HTTP-upgrade-failed")
      (case "HTTP-protocol-error")
      (case "loop-detected")
      (case "configuration-error")
      (case "internal-error" (option string))))
    (export "error-code" (type $error-code (eq $error-code-type)))

    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.append" (func
      (param "self" (borrow $fields)) (param "name" string) (param "value" (list u8))
      (result (result (error $header-error)))))
    (export "[constructor]outgoing-response" (func
      (param "headers" (own $fields)) (result (own $outgoing-response))))
    (export "[method]outgoing-response.body" (func
      (param "self" (borrow $outgoing-response)) (result (result (own $outgoing-body)))))
    (export "[method]outgoing-body.write" (func
      (param "self" (borrow $outgoing-body)) (result (result (own $body-stream)))))
    (export "[static]outgoing-body.finish" (func
      (param "this" (own $outgoing-body)) (param "trailers" (option (own $fields)))
      (result (result (error $error-code)))))
    (export "[static]response-outparam.set" (func
      (param "param" (own $response-outparam))
      (param "response" (result (own $outgoing-response) (error $error-code)))))
))
  (alias export $http "incoming-request" (type $incoming-request))
  (alias export $http "response-outparam" (type $response-outparam))

  ;; Memory first, alone, since the lowered imports below read and write it.
  (core module $memory-module
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    ;; Gives out memory above 4096 in order; nothing is freed, since an instance serves one request.
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
      (result i32) (local $start i32)
      (local.set $start (i32.and
        (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $start) (local.get $size)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1)
          (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
        unreachable)
      (memory.copy (local.get $start) (local.get $old) (local.get $old-size))
      (local.get $start)))
  (core instance $memory (instantiate $memory-module))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))

  ;; The imports as core functions: handles and addresses are i32.
  (core func $get-environment (canon lower (func $environment "get-environment")
    (memory $mem) (realloc $realloc)))
  (core func $new-fields (canon lower (func $http "[constructor]fields")))
  (core func $append (canon lower (func $http "[method]fields.append") (memory $mem)))
  (core func $new-response (canon lower (func $http "[constructor]outgoing-response")))
  (core func $response-body (canon lower (func $http "[method]outgoing-response.body") (memory $mem)))
  (core func $set-response (canon lower (func $http "[static]response-outparam.set") (memory $mem)))
  (core func $body-stream (canon lower (func $http "[method]outgoing-body.write") (memory $mem)))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $mem)))
  (core func $drop-stream (canon resource.drop $output-stream))
  (core func $finish (canon lower (func $http "[static]outgoing-body.finish")
    (memory $mem) (realloc $realloc)))
  (core func $drop-request (canon resource.drop $incoming-request))

  ;; The program. Results of more than one word are written at 1024, the text at 2048.
  (core module $main-module
    (import "host" "memory" (memory 1))
    (import "host" "new-fields" (func $new-fields (result i32)))
    (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "host" "new-response" (func $new-response (param i32) (result i32)))
    (import "host" "response-body" (func $response-body (param i32 i32)))
    (import "host" "set-response" (func $set-response (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "body-stream" (func $body-stream (param i32 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "drop-stream" (func $drop-stream (param i32)))
    (import "host" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "host" "drop-request" (func $drop-request (param i32)))
    (import "host" "get-environment" (func $get-environment (param i32)))
    (data (i32.const 0) "content-type")
    (data (i32.const 16) "text/plain")
    (data (i32.const 32) "HOSTNAME")
    (data (i32.const 48) "unknown")
    (data (i32.const 2048) "Hello from ")

    ;; Answers 200 with a text of `length` bytes at `text`.
    (func $answer (param $out i32) (param $text i32) (param $length i32)
      (local $headers i32) (local $response i32) (local $body i32) (local $stream i32)
      (local.set $headers (call $new-fields))
      (call $append (local.get $headers)
        (i32.const 0) (i32.const 12)   ;; content-type
        (i32.const 16) (i32.const 10)  ;; text/plain
        (i32.const 1024))
      (local.set $response (call $new-response (local.get $headers)))
      (call $response-body (local.get $response) (i32.const 1024))
      (local.set $body (i32.load (i32.const 1028)))
      ;; `ok(response)`; the other words are room for an error-code.
      (call $set-response (local.get $out) (i32.const 0) (local.get $response)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $body-stream (local.get $body) (i32.const 1024))
      (local.set $stream (i32.load (i32.const 1028)))
      (call $write (local.get $stream) (local.get $text) (local.get $length) (i32.const 1024))
      (call $drop-stream (local.get $stream))
      (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 1024)))

    ;; Copies the value of HOSTNAME to `to` and answers its length.
    (func $hostname (param $to i32) (result i32) (local $pair i32) (local $end i32)
      (call $get-environment (i32.const 1024))
      ;; A list is an address and a length; a pair of strings is four words: 16 bytes.
      (local.set $pair (i32.load (i32.const 1024)))
      (local.set $end (i32.add (local.get $pair) (i32.shl (i32.load (i32.const 1028)) (i32.const 4))))
      (block $none
        (loop $next
          (br_if $none (i32.ge_u (local.get $pair) (local.get $end)))
          (if (i32.eq (i32.load offset=4 (local.get $pair)) (i32.const 8))
            (then (if (i64.eq (i64.load (i32.load (local.get $pair))) (i64.load (i32.const 32)))
              (then
                (memory.copy (local.get $to)
                  (i32.load offset=8 (local.get $pair)) (i32.load offset=12 (local.get $pair)))
                (return (i32.load offset=12 (local.get $pair)))))))
          (local.set $pair (i32.add (local.get $pair) (i32.const 16)))
          (br $next)))
      (memory.copy (local.get $to) (i32.const 48) (i32.const 7))
      (i32.const 7))

    (func (export "handle") (param $request i32) (param $out i32) (local $length i32)
      (call $drop-request (local.get $request))
      (local.set $length (call $hostname (i32.const 2059))) ;; right after "Hello from "
      (i32.store8 (i32.add (i32.const 2059) (local.get $length)) (i32.const 10))
      (call $answer (local.get $out) (i32.const 2048) (i32.add (local.get $length) (i32.const 12)))))
  (core instance $main (instantiate $main-module (with "host" (instance
    (export "memory" (memory $mem))
    (export "new-fields" (func $new-fields))
    (export "append" (func $append))
    (export "new-response" (func $new-response))
    (export "response-body" (func $response-body))
    (export "set-response" (func $set-response))
    (export "body-stream" (func $body-stream))
    (export "write" (func $write))
    (export "drop-stream" (func $drop-stream))
    (export "finish" (func $finish))
    (export "drop-request" (func $drop-request))
    (export "get-environment" (func $get-environment))
  ))))

  (func $handle
    (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $main "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))

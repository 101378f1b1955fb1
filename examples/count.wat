;; Count: a program in readable WebAssembly text. It prints `1` to `5`, a line each, and exits 0.
;;
;;     image: file://examples/count.wat
;;
;; It exports wasi:cli/run, so a pod of it is a process: arguments, environment, output, exit code.
(component
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
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (export "output-stream" (type $stdout-stream (eq $output-stream)))
    (export "get-stdout" (func (result (own $stdout-stream))))))

  (core module $memory-module (memory (export "memory") 1))
  (core instance $memory (instantiate $memory-module))
  (alias core export $memory "memory" (core memory $mem))

  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $mem)))

  (core module $main-module
    (import "host" "memory" (memory 1))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (data (i32.const 0) "0\n")
    (func (export "run") (result i32) (local $stdout i32) (local $digit i32)
      (local.set $stdout (call $get-stdout))
      (local.set $digit (i32.const 0x31)) ;; "1"
      (loop $next
        (i32.store8 (i32.const 0) (local.get $digit))
        (call $write (local.get $stdout) (i32.const 0) (i32.const 2) (i32.const 16))
        (local.set $digit (i32.add (local.get $digit) (i32.const 1)))
        (br_if $next (i32.le_u (local.get $digit) (i32.const 0x35))))
      (i32.const 0))) ;; ok
  (core instance $main (instantiate $main-module (with "host" (instance
    (export "memory" (memory $mem))
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write))
  ))))

  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $program (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $program)))

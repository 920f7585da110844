package fetch

import "unsafe"

//go:wasmimport wasi:http/types@0.2.0 [static]fields.from-list
func fieldsFromList(list unsafe.Pointer, length uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]fields.entries
func fieldsEntries(fields uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]fields
func fieldsDrop(fields uint32)

//go:wasmimport wasi:http/types@0.2.0 [constructor]outgoing-request
func requestNew(headers uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.body
func requestBody(request uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-method
func requestSetMethod(request, method uint32, other string) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-path-with-query
func requestSetPath(request, some uint32, path string) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-scheme
func requestSetScheme(request, some, scheme uint32, other string) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-authority
func requestSetAuthority(request, some uint32, authority string) uint32

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]outgoing-request
func requestDrop(request uint32)

//go:wasmimport wasi:http/types@0.2.0 [constructor]request-options
func optionsNew() uint32

//go:wasmimport wasi:http/types@0.2.0 [method]request-options.set-connect-timeout
func optionsSetConnect(options, some uint32, nanoseconds uint64) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]request-options.set-first-byte-timeout
func optionsSetFirstByte(options, some uint32, nanoseconds uint64) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]request-options.set-between-bytes-timeout
func optionsSetBetweenBytes(options, some uint32, nanoseconds uint64) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-body.write
func outgoingWrite(body uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [static]outgoing-body.finish
func outgoingFinish(body, some, trailers uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]outgoing-body
func outgoingDrop(body uint32)

//go:wasmimport wasi:http/outgoing-handler@0.2.0 handle
func handle(request, some, options uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [method]future-incoming-response.subscribe
func futureSubscribe(future uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]future-incoming-response.get
func futureGet(future uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]future-incoming-response
func futureDrop(future uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-response.status
func responseStatus(response uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-response.headers
func responseHeaders(response uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-response.consume
func responseConsume(response uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]incoming-response
func responseDrop(response uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-body.stream
func incomingStream(body uint32, answer unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]incoming-body
func incomingDrop(body uint32)

//go:wasmimport wasi:http/types@0.2.0 http-error-code
func errorCode(err uint32, answer unsafe.Pointer)

//go:wasmimport wasi:io/error@0.2.0 [method]error.to-debug-string
func errorText(err uint32, answer unsafe.Pointer)

//go:wasmimport wasi:io/error@0.2.0 [resource-drop]error
func errorDrop(err uint32)

//go:wasmimport wasi:io/poll@0.2.0 [method]pollable.block
func pollableBlock(pollable uint32)

//go:wasmimport wasi:io/poll@0.2.0 [resource-drop]pollable
func pollableDrop(pollable uint32)

//go:wasmimport wasi:io/streams@0.2.0 [method]input-stream.blocking-read
func inputRead(stream uint32, length uint64, answer unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.0 [resource-drop]input-stream
func inputDrop(stream uint32)

//go:wasmimport wasi:io/streams@0.2.0 [method]output-stream.blocking-write-and-flush
func outputWrite(stream uint32, contents string, answer unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.0 [resource-drop]output-stream
func outputDrop(stream uint32)

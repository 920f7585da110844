package fetch

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"taskhost.dev/taskhost/internal/abi"
)

// methods are the cases of method, in order.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// codes are the cases of error-code, in order.
var codes = [...]string{
	"DNS-timeout", "DNS-error", "destination-not-found", "destination-unavailable", "destination-IP-prohibited",
	"destination-IP-unroutable", "connection-refused", "connection-terminated", "connection-timeout",
	"connection-read-timeout", "connection-write-timeout", "connection-limit-reached", "TLS-protocol-error",
	"TLS-certificate-error", "TLS-alert-received", "HTTP-request-denied", "HTTP-request-length-required",
	"HTTP-request-body-size", "HTTP-request-method-invalid", "HTTP-request-URI-invalid", "HTTP-request-URI-too-long",
	"HTTP-request-header-section-size", "HTTP-request-header-size", "HTTP-request-trailer-section-size",
	"HTTP-request-trailer-size", "HTTP-response-incomplete", "HTTP-response-header-section-size",
	"HTTP-response-header-size", "HTTP-response-body-size", "HTTP-response-trailer-section-size",
	"HTTP-response-trailer-size", "HTTP-response-transfer-coding", "HTTP-response-content-coding",
	"HTTP-response-timeout", "HTTP-upgrade-failed", "HTTP-protocol-error", "loop-detected", "configuration-error",
	internalError,
}

const internalError = "internal-error"

// failure reads an error-code at so many bytes of the answer.
func failure(at uintptr) *Error {
	code := codes[min(int(abi.Byte(at)), len(codes)-1)]
	failed := &Error{Code: code}
	if code == internalError && abi.Byte(at+8) != 0 {
		failed.Text = abi.Text(at + 12)
	}
	abi.Free()
	return failed
}

// wrong is an answer that a host gives only to what is no request.
func wrong(what string) *Error {
	return &Error{"HTTP-protocol-error", "the host takes no such " + what}
}

func send(_ context.Context, method string, target target, request *Request, timeout time.Duration) (*Response, error) {
	made, err := begin(method, target, request.Header)
	if err != nil {
		return nil, err
	}
	var body uint32
	if len(request.Body) > 0 {
		requestBody(made, abi.Answer())
		body = abi.Word(4)
	}
	handle(made, 1, options(timeout), abi.Answer())
	if abi.Byte(0) != 0 {
		err := failure(8)
		if len(request.Body) > 0 {
			outgoingDrop(body)
		}
		return nil, err
	}
	future := abi.Word(8)
	defer futureDrop(future)
	if len(request.Body) > 0 {
		write(body, request.Body) // whether the server has taken all of it, it will say
	}
	return wait(future)
}

// begin makes a request without a body.
func begin(method string, target target, header Header) (uint32, error) {
	fields, err := fields(header)
	if err != nil {
		return 0, err
	}
	made := requestNew(fields)
	known := uint32(len(methods))
	for i, name := range methods {
		if name == method {
			known = uint32(i)
		}
	}
	scheme := uint32(0)
	if target.scheme == "https" {
		scheme = 1
	}
	var what string
	switch {
	case requestSetMethod(made, known, method) != 0:
		what = "method"
	case requestSetScheme(made, 1, scheme, "") != 0:
		what = "scheme"
	case requestSetAuthority(made, 1, target.authority) != 0:
		what = "host"
	case requestSetPath(made, 1, target.path) != 0:
		what = "path"
	default:
		return made, nil
	}
	requestDrop(made)
	return 0, wrong(what)
}

func fields(header Header) (uint32, error) {
	type entry struct{ name, nameLength, value, valueLength uint32 }
	var entries []entry
	var held []string
	for name, values := range header {
		for _, value := range values {
			held = append(held, name, value)
			entries = append(entries, entry{address(name), uint32(len(name)), address(value), uint32(len(value))})
		}
	}
	list := unsafe.Pointer(unsafe.SliceData(entries))
	if len(entries) == 0 {
		list = abi.Answer() // any that is aligned
	}
	fieldsFromList(list, uint32(len(entries)), abi.Answer())
	runtime.KeepAlive(held)
	runtime.KeepAlive(entries)
	if abi.Byte(0) != 0 {
		why := [...]string{"invalid", "one that only the host sets", "immutable"}
		return 0, &Error{"HTTP-request-header-section-size", fmt.Sprintf("a name or value of the header is %s", why[abi.Byte(4)%3])}
	}
	return abi.Word(4), nil
}

func address(text string) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.StringData(text))))
}

func options(timeout time.Duration) uint32 {
	options := optionsNew()
	if timeout > 0 {
		for _, set := range []func(uint32, uint32, uint64) uint32{optionsSetConnect, optionsSetFirstByte, optionsSetBetweenBytes} {
			set(options, 1, uint64(timeout)) // one that the host does not know is none that it keeps
		}
	}
	return options
}

// write sends a body, and says that this is all of it.
func write(body uint32, content []byte) {
	const most = 4096
	outgoingWrite(body, abi.Answer())
	stream := abi.Word(4)
	text := unsafe.String(unsafe.SliceData(content), len(content))
	for len(text) > 0 {
		part := text[:min(len(text), most)]
		outputWrite(stream, part, abi.Answer())
		if abi.Byte(0) != 0 {
			if abi.Byte(4) == 0 {
				errorDrop(abi.Word(8))
			}
			outputDrop(stream)
			outgoingDrop(body)
			return
		}
		text = text[len(part):]
	}
	outputDrop(stream)
	outgoingFinish(body, 0, 0, abi.Answer())
	if abi.Byte(0) != 0 {
		_ = failure(8) // the response says it
	}
}

func wait(future uint32) (*Response, error) {
	ready := futureSubscribe(future)
	pollableBlock(ready)
	pollableDrop(ready)
	futureGet(future, abi.Answer())
	switch {
	case abi.Byte(0) == 0 || abi.Byte(8) != 0:
		return nil, wrong("question twice")
	case abi.Byte(16) != 0:
		return nil, failure(24)
	}
	response := abi.Word(24)
	defer responseDrop(response)
	got := &Response{Status: int(responseStatus(response)), Header: header(responseHeaders(response))}
	responseConsume(response, abi.Answer())
	consumed := abi.Word(4)
	incomingStream(consumed, abi.Answer())
	got.Body = &body{consumed: consumed, stream: abi.Word(4)}
	return got, nil
}

func header(fields uint32) Header {
	defer fieldsDrop(fields)
	fieldsEntries(fields, abi.Answer())
	header := Header{}
	for _, pair := range abi.Pairs(0) {
		name := strings.ToLower(pair[0])
		header[name] = append(header[name], pair[1])
	}
	abi.Free()
	return header
}

// body is read from the host as it comes.
type body struct {
	consumed, stream uint32
	end              error
}

func (b *body) Read(into []byte) (int, error) {
	if b.end != nil || len(into) == 0 {
		return 0, b.end
	}
	inputRead(b.stream, uint64(len(into)), abi.Answer())
	if abi.Byte(0) == 0 {
		count := copy(into, abi.View(4))
		abi.Free()
		return count, nil
	}
	b.end = io.EOF
	if abi.Byte(4) == 0 {
		b.end = broken(abi.Word(8))
	}
	b.close()
	return 0, b.end
}

// broken says why a stream has broken off.
func broken(err uint32) error {
	defer errorDrop(err)
	errorCode(err, abi.Answer())
	if abi.Byte(0) != 0 {
		return failure(8)
	}
	errorText(err, abi.Answer())
	text := abi.Text(0)
	abi.Free()
	return &Error{internalError, text}
}

func (b *body) Close() error {
	if b.end == nil {
		b.end = &Error{"HTTP-response-incomplete", "the body is closed"}
		b.close()
	}
	return nil
}

func (b *body) close() {
	inputDrop(b.stream)
	incomingDrop(b.consumed)
}

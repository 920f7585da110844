// Package fetch sends HTTP requests from tasks, to the servers that `http` in [needs] of plugin.toml names and the operator
// grants.
//
// It is small: package net/http, which package wasihttp lets a task use, makes a plugin three times as large.
// There are no redirects, cookies or connections to keep: the host makes a connection for each request.
package fetch

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Request is what is asked for.
type Request struct {
	// Method is GET if it is empty.
	Method string
	// URL is absolute.
	URL    string
	Header Header
	Body   []byte
	// Timeout is how long the connection, the first byte and every pause after it may take; zero is what the operator
	// allows.
	Timeout time.Duration
}

// Header has names in lower case, with the values of each.
type Header map[string][]string

// Get gives the first value of a name, however it is spelt.
func (h Header) Get(name string) string {
	if values := h[strings.ToLower(name)]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set puts one value under a name.
func (h Header) Set(name, value string) {
	h[strings.ToLower(name)] = []string{value}
}

// Response is what a server has answered. Whatever its status, it is no error.
type Response struct {
	Status int
	Header Header
	// Body is read as it comes, and closed by whoever reads it.
	Body io.ReadCloser
}

// Bytes reads the whole body, and closes it.
func (r *Response) Bytes() ([]byte, error) {
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// Error says that there is no response, or that it broke off.
type Error struct {
	// Code is that of wasi:http, such as connection-refused; HTTP-request-denied is what has not been granted.
	Code string
	// Text says more, if the host does.
	Text string
}

// Error gives code and text.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code
	}
	return e.Text
}

// Get asks for what is at a URL.
func Get(ctx context.Context, url string) (*Response, error) {
	return Do(ctx, &Request{URL: url})
}

// Post sends a body.
func Post(ctx context.Context, url, contentType string, body []byte) (*Response, error) {
	return Do(ctx, &Request{Method: "POST", URL: url, Header: Header{"content-type": {contentType}}, Body: body})
}

// Do sends a request. Of ctx only the deadline counts, besides that nothing is sent once it is done.
func Do(ctx context.Context, request *Request) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	target, err := parse(request.URL)
	if err != nil {
		return nil, err
	}
	timeout := request.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); timeout == 0 || left < timeout {
			timeout = max(left, time.Millisecond)
		}
	}
	method := request.Method
	if method == "" {
		method = "GET"
	}
	return send(ctx, method, target, request, timeout)
}

// target is a URL taken apart.
type target struct {
	scheme, authority, path string
}

func parse(url string) (target, error) {
	url, _, _ = strings.Cut(url, "#")
	scheme, rest, ok := strings.Cut(url, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return target{}, &Error{"HTTP-request-URI-invalid", fmt.Sprintf("%q is no absolute URL with http or https", url)}
	}
	authority, path := rest, "/"
	if at := strings.IndexAny(rest, "/?"); at >= 0 {
		authority, path = rest[:at], rest[at:]
	}
	if strings.HasPrefix(path, "?") {
		path = "/" + path
	}
	if authority == "" || strings.Contains(authority, "@") {
		return target{}, &Error{"HTTP-request-URI-invalid", fmt.Sprintf("%q names no host, or a user before it", url)}
	}
	return target{scheme, authority, path}, nil
}

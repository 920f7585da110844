//go:build !wasip1

package fetch

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"
)

// send asks by package net/http where there is no host, as in a test.
func send(ctx context.Context, method string, _ target, request *Request, timeout time.Duration) (*Response, error) {
	client := http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	made, err := http.NewRequestWithContext(ctx, method, request.URL, bytes.NewReader(request.Body))
	if err != nil {
		return nil, &Error{"HTTP-request-URI-invalid", err.Error()}
	}
	for name, values := range request.Header {
		for _, value := range values {
			made.Header.Add(name, value)
		}
	}
	got, err := client.Do(made)
	if err != nil {
		return nil, &Error{"internal-error", err.Error()}
	}
	header := Header{}
	for name, values := range got.Header {
		header[strings.ToLower(name)] = values
	}
	return &Response{got.StatusCode, header, got.Body}, nil
}

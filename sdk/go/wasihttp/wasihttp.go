// Package wasihttp lets tasks use package net/http: whoever imports it has http.DefaultTransport ask the host, so that
// http.Get and http.Client work as ever.
//
//	import _ "taskhost.dev/taskhost/wasihttp"
//
// The servers are those that `http` in [needs] of plugin.toml names and the operator grants. Package net/http makes a
// plugin three times as large, and its instances slower to start; package fetch does not.
package wasihttp

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"taskhost.dev/taskhost/fetch"
)

// Transport is an http.RoundTripper that asks the host. A request's body is read as a whole before it is sent.
type Transport struct{}

// RoundTrip sends a request.
func (Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	asked := &fetch.Request{Method: request.Method, URL: request.URL.String(), Header: fetch.Header{}}
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		request.Body.Close()
		if err != nil {
			return nil, err
		}
		asked.Body = body
	}
	for name, values := range request.Header {
		asked.Header[strings.ToLower(name)] = values
	}
	got, err := fetch.Do(request.Context(), asked)
	if err != nil {
		return nil, err
	}
	response := &http.Response{
		Status:        strconv.Itoa(got.Status) + " " + http.StatusText(got.Status),
		StatusCode:    got.Status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{},
		Body:          got.Body,
		ContentLength: -1,
		Request:       request,
	}
	for name, values := range got.Header {
		response.Header[http.CanonicalHeaderKey(name)] = values
	}
	if length, err := strconv.ParseInt(response.Header.Get("Content-Length"), 10, 64); err == nil {
		response.ContentLength = length
	}
	return response, nil
}

package fetch_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"taskhost.dev/taskhost"
	"taskhost.dev/taskhost/fetch"
	"taskhost.dev/taskhost/taskhosttest"
	"taskhost.dev/taskhost/wasihttp"
)

func echo(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("X-Seen", r.Method+" "+r.URL.String()+" "+r.Header.Get("X-Mine"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(append(body, '!'))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestARequestIsSentAndAnswered(t *testing.T) {
	request := &fetch.Request{Method: "PUT", URL: echo(t) + "/a?b=c#d", Header: fetch.Header{}, Body: []byte("text")}
	request.Header.Set("X-Mine", "m")
	got, err := fetch.Do(taskhost.NewContext("id", "t.fetch", 0), request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := got.Bytes()
	if got.Status != 418 || got.Header.Get("X-SEEN") != "PUT /a?b=c m" || string(body) != "text!" || err != nil {
		t.Error(got, string(body), err)
	}
}

func TestWhatIsNoURLIsRefused(t *testing.T) {
	ctx := taskhost.NewContext("id", "t.fetch", 0)
	for _, url := range []string{"", "a", "/a", "ftp://a", "http://", "http:///a", "https://user@host/"} {
		var refused *fetch.Error
		if _, err := fetch.Get(ctx, url); !errors.As(err, &refused) || refused.Code != "HTTP-request-URI-invalid" {
			t.Error(url, err)
		}
	}
}

func TestNothingIsSentOnceTheTaskIsToEnd(t *testing.T) {
	(&taskhosttest.Host{Stop: true}).Use(t)
	if _, err := fetch.Get(taskhost.NewContext("id", "t.fetch", 0), echo(t)); err == nil {
		t.Error("it was sent")
	}
}

func TestATransportIsForClientsOfNetHTTP(t *testing.T) {
	client := http.Client{Transport: wasihttp.Transport{}}
	got, err := client.Post(echo(t)+"/x", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if got.StatusCode != 418 || got.Header.Get("X-Seen") != "POST /x" || string(body) != "body!" || err != nil {
		t.Error(got, string(body), err)
	}
}

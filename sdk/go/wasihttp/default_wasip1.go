package wasihttp

import "net/http"

func init() {
	http.DefaultTransport = Transport{}
}

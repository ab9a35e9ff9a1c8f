package cloud

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// maxRefusal is how much of an answer that says no is read: it is for people.
const maxRefusal = 1 << 20

// redact takes what a call proved itself with out of an answer that says no, for its
// words come into errors, Events and logs.
func redact(r *http.Request, resp *http.Response) error {
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	_ = resp.Body.Close() // what is left is not wanted
	for _, header := range []string{"Authorization", tokenHeader} {
		secret := strings.TrimPrefix(r.Header.Get(header), "Bearer ")
		if len(secret) > 3 {
			body = bytes.ReplaceAll(body, []byte(secret), []byte("(secret)"))
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return err
}

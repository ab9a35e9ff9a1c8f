package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/herald-lb/herald/cloud"
)

const (
	// maxBody is more than a page of 500 load balancers, and less than what hurts.
	maxBody = 8 << 20
	// patience is how long one request may take.
	patience = 30 * time.Second
)

// client makes requests, each once.
type client struct {
	base     string // without a slash at the end
	token    func() (string, error)
	http     *http.Client
	patience time.Duration
}

// newClient returns a client for the server at an URL.
func newClient(endpoint string, token func() (string, error), hc *http.Client) (*client, error) {
	u, err := url.Parse(endpoint)
	switch {
	case endpoint == "":
		return nil, fmt.Errorf("the URL of the webhook's server is missing")
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, fmt.Errorf("%s is no URL of http or https", quote(endpoint))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("the URL of the webhook's server at %s has a user, a query or a fragment: a token belongs into tokenFile", u.Host)
	}
	if hc == nil {
		hc = http.DefaultClient
	}
	own := *hc
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{base: strings.TrimSuffix(u.String(), "/"), token: token, http: &own, patience: patience}, nil
}

// A request is one call. Path begins with /v1.
type request struct {
	Method, Path string
	Body         any // nil for none
}

func (r request) String() string { return r.Method + " " + r.Path }

// reply is what came back, whole.
type reply struct {
	status int
	body   []byte
	after  string // the header Retry-After
}

// do makes a request and returns the body of an answer that is none of an error.
func (c *client) do(ctx context.Context, r request) (reply, error) {
	token, err := c.token()
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	got, err := c.send(ctx, r, token)
	if err != nil {
		return reply{}, fmt.Errorf("webhook: %w", err) // which says method and URL, or is of a class
	}
	if got.status < 200 || got.status > 299 {
		return reply{}, refusal(r, got, token)
	}
	return got, nil
}

func (c *client) send(ctx context.Context, r request, token string) (reply, error) {
	body, err := r.encode()
	if err != nil {
		return reply{}, err
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, c.base+r.Path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close() // read to the end, or not to be used again
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return reply{}, fmt.Errorf("%s: reading the answer: %w", r, err)
	case len(text) > maxBody:
		return reply{}, fmt.Errorf("%s: the answer is longer than %d MiB", r, maxBody>>20)
	}
	return reply{status: resp.StatusCode, body: text, after: resp.Header.Get("Retry-After")}, nil
}

func (r request) encode() ([]byte, error) {
	switch b := r.Body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return b, nil
	default:
		return json.Marshal(b)
	}
}

// refusal is what an answer that is an error means.
func refusal(r request, got reply, token string) *cloud.Error {
	f := parseFailure(got.body)
	e := &cloud.Error{Class: cloud.Retryable, After: after(f.RetryAfterSeconds)}
	if s, err := strconv.ParseInt(got.after, 10, 64); err == nil && e.After == 0 {
		e.After = after(s)
	}
	switch got.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Class, e.Reason = cloud.Auth, "CloudAuthFailed"
	case http.StatusNotFound:
		e.Class = cloud.NotFound
	case http.StatusConflict:
		e.Class = cloud.Locked
		if f.Code == "conflict" {
			e.Class, e.Reason = cloud.Conflict, "OwnershipConflict"
		}
	case http.StatusTooManyRequests:
		e.Class, e.Reason = cloud.RateLimited, "CloudRateLimited"
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		e.Class, e.Reason = rejected(f.Code)
	}
	said := f.Message
	if token != "" {
		said = strings.ReplaceAll(said, token, "…")
	}
	e.Text = fmt.Sprintf("webhook: %s: %d %s: %s", r, got.status, short(f.Code, 63), short(said, 300))
	return e
}

// rejected is what a server means that will not do as it was told.
func rejected(code string) (cloud.Class, string) {
	switch code {
	case "quota":
		return cloud.Quota, "CloudLimitExceeded"
	case "protected":
		return cloud.Terminal, "DeletionProtected"
	}
	return cloud.Terminal, ""
}

// malformed is the error for an answer that cannot be believed. It may be right
// the next time.
func malformed(r request, err error) error {
	return &cloud.Error{Class: cloud.Retryable, Text: fmt.Sprintf("webhook: %s: the answer is not of the protocol", r), Err: err}
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"
)

// pollEvery is how often a server that is starting is asked again.
const pollEvery = 50 * time.Millisecond

// A client asks the API server simple questions, as the admin.
type client struct {
	http  *http.Client
	url   string
	token string
}

func newClient(url, token string, ca []byte) *client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &client{
		http: &http.Client{
			Timeout:   2 * time.Second,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
		},
		url:   url,
		token: token,
	}
}

// await asks for path until the answer is 200 or ctx ends. It is the end of
// ctx, not this loop, that bounds the wait.
func (c *client) await(ctx context.Context, path string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		last := c.get(ctx, path)
		if last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("awaiting %s: %w: %w", path, context.Cause(ctx), last)
		}
	}
}

// get returns nil if the server answers path with 200.
func (c *client) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("getting %s: %s", path, resp.Status)
	}
	return nil
}

package openstack

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/herald-lb/herald/cloud"
)

// maxFault is how much is quoted of what a server says is wrong.
const maxFault = 300

// explain turns an error of the SDK into one of the cloud's. Of an answer the
// server's own words are kept, and nothing of what was sent.
func explain(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	text := fmt.Sprintf(doing, args...)
	var ours *cloud.Error
	if errors.As(err, &ours) {
		return &cloud.Error{Class: ours.Class, Reason: ours.Reason, After: ours.After, Text: text, Err: err}
	}
	var answer gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &answer) {
		if reauth := (*gophercloud.ErrUnableToReauthenticate)(nil); errors.As(err, &reauth) {
			return explain(reauth.ErrReauth, "%s: logging in again", text)
		}
		if missing := (&gophercloud.ErrEndpointNotFound{}); errors.As(err, &missing) {
			return &cloud.Error{Class: cloud.Retryable, After: cloud.ComeAgain, Text: text + ": it is not in OpenStack's catalogue"}
		}
		return &cloud.Error{Class: cloud.Retryable, Text: text, Err: err}
	}
	said := fault(answer.Body)
	e := &cloud.Error{Class: class(answer.Actual, said), Text: fmt.Sprintf("%s: %d %s", text, answer.Actual, said)}
	switch e.Class {
	case cloud.Auth:
		e.Reason = "CloudAuthFailed"
	case cloud.RateLimited:
		e.Reason = "CloudRateLimited"
	case cloud.Quota:
		e.Reason = "CloudLimitExceeded"
	}
	if e.Class == cloud.RateLimited || e.Class == cloud.Retryable {
		e.After = retryAfter(answer.ResponseHeader)
	}
	return e
}

// class is what a status means. Octavia and Neutron have 409 for several things,
// which their words tell apart.
func class(status int, said string) cloud.Class {
	says := func(all ...string) bool {
		for _, s := range all {
			if strings.Contains(strings.ToLower(said), s) {
				return true
			}
		}
		return false
	}
	switch {
	case status == http.StatusTooManyRequests:
		return cloud.RateLimited
	case status == http.StatusNotFound:
		return cloud.NotFound
	case status == http.StatusRequestEntityTooLarge, status < 500 && says("quota", "no more ip addresses"):
		return cloud.Quota
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return cloud.Auth
	case status == http.StatusConflict && says("immutable", "invalid state", "pending_"):
		return cloud.Locked
	case status == http.StatusConflict:
		return cloud.Conflict
	case status < 400, status >= 500, status == http.StatusRequestTimeout: // what redirects is no fault of a Service's
		return cloud.Retryable
	}
	return cloud.Terminal
}

// fault is what a server says is wrong: Octavia's faultstring, or the message of
// Neutron and Keystone.
func fault(body []byte) string {
	type message struct {
		Message string `json:"message"`
	}
	var all struct {
		Fault   string  `json:"faultstring"`
		Neutron message `json:"NeutronError"`
		Error   message `json:"error"`
		message
	}
	said := ""
	if json.Unmarshal(body, &all) == nil {
		said = cmp.Or(all.Fault, all.Neutron.Message, all.Error.Message, all.Message)
	}
	said = strings.Join(strings.Fields(said), " ")
	if said == "" {
		return "without a word"
	}
	return said[:min(len(said), maxFault)]
}

// retryAfter reads seconds, or a time (RFC 9110 §10.2.3); zero for neither.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}

// unless returns nil for an error of a class: what was to be done was done before.
func unless(err error, c cloud.Class) error {
	if err != nil && cloud.Is(err, c) {
		return nil
	}
	return err
}

package hetzner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/herald-lb/herald/cloud"
)

// meaning is what a code of the API's means for whoever asked. A code that is not
// here means what its HTTP status does.
var meaning = map[hcloud.ErrorCode]cloud.Error{
	hcloud.ErrorCodeUnauthorized:          {Class: cloud.Auth, Reason: cloud.ReasonAuth},
	hcloud.ErrorCodeForbidden:             {Class: cloud.Auth, Reason: cloud.ReasonAuth, After: time.Minute},
	hcloud.ErrorCodeMaintenance:           {Class: cloud.Retryable, After: time.Minute},
	hcloud.ErrorCodeResourceLimitExceeded: {Class: cloud.Quota, Reason: cloud.ReasonLimit, After: 5 * time.Minute},
	hcloud.ErrorCodeResourceUnavailable:   {Class: cloud.Quota, After: 5 * time.Minute},
	hcloud.ErrorCodeUniquenessError:       {Class: cloud.Conflict},
	hcloud.ErrorCodeConflict:              {Class: cloud.Locked},
	hcloud.ErrorCodeLocked:                {Class: cloud.Locked},
	hcloud.ErrorCodeProtected:             {Class: cloud.Unsafe, Reason: cloud.ReasonProtected},
	hcloud.ErrorCodeRateLimitExceeded:     {Class: cloud.RateLimited, Reason: cloud.ReasonRateLimited},
	hcloud.ErrorCodeRobotUnavailable:      {Class: cloud.Retryable},
	hcloud.ErrorCodeServerError:           {Class: cloud.Retryable},
	hcloud.ErrorCodeBadGateway:            {Class: cloud.Retryable},
	hcloud.ErrorCodeTimeout:               {Class: cloud.Retryable},
	hcloud.ErrorCodeUnknownError:          {Class: cloud.Retryable},
}

// wrap says what was tried, and of which class its failure is. An error that has a
// class already, for instance from the transport, keeps it.
func wrap(resp *hcloud.Response, err error, text string, args ...any) *cloud.Error {
	e := classify(resp, err)
	e.Text, e.Err = fmt.Sprintf(text, args...), err
	var api hcloud.Error
	if errors.As(err, &api) {
		if d, ok := api.Details.(hcloud.ErrorDetailsInvalidInput); ok {
			e.Err = fmt.Errorf("%w: %s", err, fields(d))
		}
	}
	if e.Class == cloud.RateLimited && e.After == 0 {
		e.After = untilReset(resp)
	}
	return &e
}

// fields says what the API has to say of each field.
func fields(d hcloud.ErrorDetailsInvalidInput) string {
	all := make([]string, len(d.Fields))
	for i, f := range d.Fields {
		all[i] = f.Name + ": " + strings.Join(f.Messages, ", ")
	}
	return strings.Join(all, "; ")
}

func classify(resp *hcloud.Response, err error) cloud.Error {
	var known *cloud.Error
	if errors.As(err, &known) {
		return cloud.Error{Class: known.Class, Reason: known.Reason, After: known.After}
	}
	var api hcloud.Error
	if errors.As(err, &api) {
		if e, ok := meaning[api.Code]; ok {
			return e
		}
	}
	if resp == nil || resp.Response == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return cloud.Error{Class: cloud.Retryable}
	}
	return ofStatus(resp.StatusCode)
}

func ofStatus(status int) cloud.Error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return cloud.Error{Class: cloud.Auth, Reason: cloud.ReasonAuth}
	case http.StatusNotFound:
		return cloud.Error{Class: cloud.NotFound}
	case http.StatusConflict, http.StatusLocked:
		return cloud.Error{Class: cloud.Locked}
	case http.StatusPreconditionFailed:
		return cloud.Error{Class: cloud.Quota, After: 5 * time.Minute}
	case http.StatusTooManyRequests:
		return cloud.Error{Class: cloud.RateLimited, Reason: cloud.ReasonRateLimited}
	case http.StatusBadRequest, http.StatusGone, http.StatusUnprocessableEntity:
		return cloud.Error{Class: cloud.Terminal}
	}
	return cloud.Error{Class: cloud.Retryable} // also a success whose body was cut
}

// untilReset is when the API answers again, by its headers: Retry-After, or else
// the time at which the whole budget is back. One call is there again after a
// second, but the project's other clients wait for it, too.
func untilReset(resp *hcloud.Response) time.Duration {
	if resp == nil || resp.Response == nil {
		return 10 * time.Second
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if wait := time.Until(resp.Meta.Ratelimit.Reset); wait > time.Second {
		return min(wait, time.Minute)
	}
	return 10 * time.Second
}

// certain is whether an error says that the API did not do what it was asked now.
// It may have done it before.
func certain(e *cloud.Error) bool {
	switch e.Class {
	case cloud.NotFound, cloud.Conflict, cloud.Terminal, cloud.Quota:
		return true
	}
	return false
}

package hetzner

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// Codes that are used below more than once, or that hcloud-go does not name.
const (
	codeJSON         = string(hcloud.ErrorCodeJSONError)
	codeUnauthorized = string(hcloud.ErrorCodeUnauthorized)
	codeForbidden    = string(hcloud.ErrorCodeForbidden)
	codeNotFound     = string(hcloud.ErrorCodeNotFound)
	codeInvalid      = string(hcloud.ErrorCodeInvalidInput)
	codeUnique       = string(hcloud.ErrorCodeUniquenessError)
	codeConflict     = string(hcloud.ErrorCodeConflict)
	codeLocked       = string(hcloud.ErrorCodeLocked)
	codeProtected    = string(hcloud.ErrorCodeProtected)
	codeRateLimit    = string(hcloud.ErrorCodeRateLimitExceeded)
	codeLimit        = string(hcloud.ErrorCodeResourceLimitExceeded)
	codeGone         = string(hcloud.ErrorDeprecatedAPIEndpoint)

	codeMustBeUnassigned = "must_be_unassigned"
	codeFloatingAssigned = "floating_ip_assigned"
	codePublicDisabled   = "load_balancer_public_interface_disabled"
)

// statuses are the codes that are not answered with 422, as those of single
// operations are.
var statuses = map[string]int{
	codeJSON:                            http.StatusBadRequest,
	codeUnauthorized:                    http.StatusUnauthorized,
	codeForbidden:                       http.StatusForbidden,
	codeLimit:                           http.StatusForbidden,
	string(hcloud.ErrorCodeMaintenance): http.StatusForbidden,
	codeNotFound:                        http.StatusNotFound,
	codeUnique:                          http.StatusConflict,
	codeConflict:                        http.StatusConflict,
	codeGone:                            http.StatusGone,
	string(hcloud.ErrorCodeResourceUnavailable): http.StatusPreconditionFailed,
	codeLocked:                          http.StatusLocked,
	codeProtected:                       http.StatusLocked,
	codeRateLimit:                       http.StatusTooManyRequests,
	string(hcloud.ErrorCodeServerError): http.StatusInternalServerError,
	string(hcloud.ErrorCodeBadGateway):  http.StatusBadGateway,
	"unavailable":                       http.StatusServiceUnavailable,
	string(hcloud.ErrorCodeTimeout):     http.StatusGatewayTimeout,
}

// An apiError is an answer that is an error.
type apiError struct {
	code, message string
	field         string // of invalid input
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func errorf(code, format string, args ...any) error {
	return &apiError{code: code, message: fmt.Sprintf(format, args...)}
}

// invalid says what is wrong with a field of the request.
func invalid(field, format string, args ...any) error {
	return &apiError{code: codeInvalid, field: field, message: fmt.Sprintf(format, args...)}
}

func notFound(kind Kind, id int64) error {
	return errorf(codeNotFound, "%s with ID '%d' not found", kind, id)
}

func errorReply(err error) reply {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{code: string(hcloud.ErrorCodeServerError), message: err.Error()}
	}
	body := schema.ErrorResponse{Error: schema.Error{Code: e.code, Message: e.message}}
	if e.field != "" {
		body.Error.Message = fmt.Sprintf("invalid input in field '%s'", e.field)
		body.Error.DetailsRaw, _ = json.Marshal(map[string]any{ // strings only
			"fields": []any{map[string]any{"name": e.field, "messages": []string{e.message}}},
		})
	}
	status, ok := statuses[e.code]
	if !ok {
		status = http.StatusUnprocessableEntity
	}
	return reply{status, body}
}

package cloud

import (
	"errors"
	"fmt"
	"time"
)

// Class is what an error of a cloud means for whoever asked.
type Class string

// Classes of errors.
const (
	Retryable   Class = "retryable"    // the same may succeed later
	Locked      Class = "locked"       // the resource is being changed
	NotFound    Class = "not found"    // there is no such resource
	Conflict    Class = "conflict"     // it is there already, or somebody else's
	Terminal    Class = "terminal"     // the same will fail again: the Service has to be changed
	Quota       Class = "quota"        // the project may have no more
	Auth        Class = "auth"         // the token is not accepted
	RateLimited Class = "rate limited" // too many calls
	Unsafe      Class = "unsafe"       // not done, for it would lose something
)

// Error is why a call to a cloud, or a plan, has failed.
type Error struct {
	Class Class
	// Reason is the reason of the Event, from the documented list; empty for none.
	Reason string
	// After is when to try again; zero to leave it to who tries.
	After time.Duration
	// Text says what was tried, at what, and what to do about it.
	Text string
	Err  error // may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return fmt.Sprintf("%s: %v", e.Text, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// ErrNotAsked is within the errors of a [Budget] that has let nobody call: it would be the
// same for all others.
var ErrNotAsked = errors.New("the cloud was not asked")

// Is is whether err is of a class.
func Is(err error, c Class) bool { return ClassOf(err) == c }

// ClassOf returns the class of err; Retryable for what is of none, as the end of a
// connection is.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Retryable
}

// Refuse returns an error of class Terminal, with the reason of its Event.
func Refuse(reason, text string, args ...any) *Error {
	return &Error{Class: Terminal, Reason: reason, Text: fmt.Sprintf(text, args...)}
}

// Package webhook is the driver for clouds of which Herald knows nothing: a
// server that somebody has written makes the load balancers and addresses, and
// is asked for them over HTTP.
//
// The protocol is openapi.yaml, and docs/webhook.md says how to write a server.
// A request says all that should be true, the server what it has made true: the
// plan is the difference, and one PUT. What a server answers is believed only if
// it can be understood in full: half a list, an unknown version or somebody
// else's load balancer is an error, and never an empty list, for of what is
// missing the next thing to be made would be a second one.
//
// Of a server it holds nothing but what it can do, which is asked once. It never
// repeats a request, and follows no redirection, for the token is for one server.
//
// Conform says of any server whether it speaks the protocol.
package webhook

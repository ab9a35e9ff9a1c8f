package bgp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/herald-lb/herald/speaker"
)

// Codes and subcodes of NOTIFICATIONs that we act on (RFC 4271 §4.5, 4486, 9384).
const (
	codeHeader = 1
	codeOpen   = 2
	codeHold   = 4
	codeFSM    = 5
	codeCease  = 6

	headerBadMarker = 1
	headerBadLength = 2
	headerBadType   = 3

	openBadVersion = 1
	openBadPeerAS  = 2
	openBadID      = 3
	openBadHold    = 6
	openBadCap     = 7

	ceasePrefixes     = 1
	ceaseShutdown     = 2
	ceaseDeconfigured = 3
	ceaseReset        = 4
	ceaseRejected     = 5
	ceaseChanged      = 6
	ceaseCollision    = 7
	ceaseBFD          = 10
)

// notificationNames are the words of the RFCs; those without a subcode stand
// for all of a code.
var notificationNames = map[[2]byte]string{
	{1, 0}: "message header error", {1, headerBadMarker}: "connection not synchronized", {1, headerBadLength}: "bad message length", {1, headerBadType}: "bad message type",
	{2, 0}: "OPEN message error", {2, openBadVersion}: "unsupported version number", {2, openBadPeerAS}: "bad peer AS", {2, openBadID}: "bad BGP identifier",
	{2, 4}: "unsupported optional parameter", {2, openBadHold}: "unacceptable hold time", {2, openBadCap}: "unsupported capability", {2, 11}: "role mismatch",
	{3, 0}: "UPDATE message error", {3, 1}: "malformed attribute list", {3, 2}: "unrecognized well-known attribute", {3, 3}: "missing well-known attribute",
	{3, 4}: "attribute flags error", {3, 5}: "attribute length error", {3, 6}: "invalid ORIGIN attribute", {3, 8}: "invalid NEXT_HOP attribute",
	{3, 9}: "optional attribute error", {3, 10}: "invalid network field", {3, 11}: "malformed AS_PATH",
	{4, 0}: "hold timer expired", {5, 0}: "finite state machine error",
	{6, 0}: "cease", {6, ceasePrefixes}: "maximum number of prefixes reached", {6, ceaseShutdown}: "administrative shutdown",
	{6, ceaseDeconfigured}: "peer de-configured", {6, ceaseReset}: "administrative reset", {6, ceaseRejected}: "connection rejected",
	{6, ceaseChanged}: "other configuration change", {6, ceaseCollision}: "connection collision resolution", {6, 8}: "out of resources",
	{6, 9}: "hard reset", {6, ceaseBFD}: "BFD down", {7, 0}: "ROUTE-REFRESH message error",
}

// words returns what the operator of the router has said (RFC 9003 §2), fit to
// be printed.
func (n notification) words() string {
	if n.code != codeCease || n.subcode != ceaseShutdown && n.subcode != ceaseReset || len(n.data) < 1 {
		return ""
	}
	text := n.data[1:min(len(n.data), 1+int(n.data[0]))]
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "?"))
}

// remedies are what to do about a NOTIFICATION of the router.
var remedies = map[[2]byte]string{
	{codeOpen, openBadPeerAS}:      "it has another number for this node than spec.myASN (or localASN) {asn}",
	{codeOpen, openBadID}:          "it uses the router ID {id} itself, or refuses it: set spec.routerID",
	{codeOpen, openBadHold}:        "it does not accept spec.holdTime {hold}",
	{codeOpen, openBadCap}:         "it wants something that Herald does not offer: see which families it has for this node, and spec.families",
	{codeHold, 0}:                  "it has heard nothing of this node for the hold time: packets are lost on the way",
	{codeCease, ceasePrefixes}:     "it takes fewer routes than it is told: raise its maximum, or aggregate",
	{codeCease, ceaseShutdown}:     "its operator has shut the session down",
	{codeCease, ceaseDeconfigured}: "this node was removed from its configuration",
	{codeCease, ceaseRejected}:     "it does not expect this node, {node}: add it as a neighbour there",
	{codeCease, ceaseCollision}:    "it has another connection with this node, {node}: whose?",
}

// refusal says what the router has said, and what to do.
func refusal(n notification, w speaker.Session, local netip.Addr) error {
	text := "the router ended the session: " + n.String()
	if remedy, ok := remedies[[2]byte{n.code, n.subcode}]; ok {
		text += "; " + strings.NewReplacer("{asn}", fmt.Sprint(w.LocalASN), "{id}", w.RouterID.String(),
			"{hold}", w.HoldTime.String(), "{node}", local.String()).Replace(remedy)
	}
	return errors.New(text)
}

// ended says why GoBGP has ended a session on our behalf.
func ended(n notification, hold time.Duration) error {
	if n.code == codeHold {
		return fmt.Errorf("the router was silent for %s, the hold time: it or the way to it is down", hold)
	}
	return fmt.Errorf("this node ended the session: %s", n)
}

// unreached says why a router cannot be dialled.
func unreached(err error, to netip.AddrPort, w speaker.Session) error {
	timeout := net.Error(nil)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connection refused: nothing listens at %s: does BGP run there, on this address and port?", to)
	case errors.Is(err, syscall.EADDRNOTAVAIL) && w.Source.IsValid():
		return fmt.Errorf("this node does not have the address %s: spec.sourceAddress has to be one of it", w.Source)
	case errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("network is unreachable: this node has no route to %s", to.Addr())
	case errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Errorf("no route to host: nobody answers for %s: is the router up, and on this network?", to.Addr())
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("connection timed out: the router does not answer at " + to.String() + suspicion(w))
	case errors.Is(err, syscall.ECONNRESET):
		return errors.New("connection reset by the router: " + unknown)
	}
	return err
}

// tooLong says of which prefixes there is more to be said than can be.
func tooLong(unsaid []netip.Prefix) error {
	switch n := len(unsaid); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s is not told as it should be: its communities take more room than a BGP message has: give it fewer", unsaid[0])
	default:
		return fmt.Errorf("%s and %d others are not told as they should be: their communities take more room than a BGP message has: give them fewer", unsaid[0], n-1)
	}
}

// unknown is what a router says nothing for.
const unknown = "it may not know this node as a neighbour: see its list of neighbours, and spec.sourceAddress"

// suspicion is what else silence may mean: the kernel drops what is not signed
// with the right password, and what has come too far, without a word.
func suspicion(w speaker.Session) string {
	text := ": it is down, or a filter is in between"
	if w.Password != "" {
		text += ", or the password differs"
	} else {
		text += ", or it wants a password (spec.passwordSecretRef)"
	}
	if w.TTLSecurity {
		text += fmt.Sprintf(", or it is more than %d hops away (spec.ttlSecurity)", hops(w))
	}
	return text
}

// errMute is a router that says nothing at all.
var errMute = errors.New("the router closed the connection before it said who it is: " + unknown)

// badLength says that a message is longer or shorter than its type allows.
func badLength(m message) (notification, error) {
	return notification{codeHeader, headerBadLength, slices.Clone(m[16:18])},
		fmt.Errorf("the router sent a message of type %d with %d bytes", m.kind(), len(m))
}

// badHeader is what a router is told of a message that cannot be read, for all
// that is known of it is the header.
func badHeader(err error, header []byte) (notification, bool) {
	switch {
	case errors.Is(err, errHeader):
		return notification{code: codeHeader, subcode: headerBadMarker}, true
	case errors.Is(err, errLength):
		return notification{codeHeader, headerBadLength, slices.Clone(header[16:18])}, true
	}
	return notification{}, false
}

// lost says why a connection that was there is not any more.
func lost(err error, opened bool) error {
	switch {
	case errors.Is(err, errHeader):
		return errors.New("what came from the router is not BGP: is it the right port?")
	case errors.Is(err, errLength):
		return errors.New("the router sent a message that is longer or shorter than BGP allows")
	case !opened && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return errMute
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the router closed the connection: it was stopped, or restarts")
	case errors.Is(err, syscall.ECONNRESET):
		return errors.New("connection reset by the router: it was stopped, or restarts")
	}
	return fmt.Errorf("reading from the router: %w", err)
}

package bfd

import (
	"container/heap"
	"time"
)

// never is when a session is due that waits for the peer.
var never = time.Unix(1<<40, 0)

// An agenda is the sessions in the order in which they are due: a heap.
type agenda []*entry

// Len implements [heap.Interface], as do the next four.
func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

// Push implements [heap.Interface].
func (a *agenda) Push(x any) {
	e := x.(*entry)
	e.index = len(*a)
	*a = append(*a, e)
}

// Pop implements [heap.Interface].
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	e.index = -1
	return e
}

// put sets when e is due, adding it if it is not there.
func (a *agenda) put(e *entry) {
	at := e.due()
	if at.IsZero() {
		at = never
	}
	switch {
	case e.index < 0:
		e.at = at
		heap.Push(a, e)
	case !e.at.Equal(at):
		e.at = at
		heap.Fix(a, e.index)
	}
}

// drop removes e.
func (a *agenda) drop(e *entry) {
	if e.index >= 0 {
		heap.Remove(a, e.index)
	}
}

// next returns when the first is due.
func (a agenda) next() time.Time {
	if len(a) == 0 {
		return never
	}
	return a[0].at
}

package kube

import (
	"strconv"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An overlay remembers what was written until the watch has brought it back.
//
// Without it a pass right after a write would still see the object as it was,
// and could give the address that has just been assigned to somebody else.
type overlay struct {
	mu    sync.Mutex
	newer map[string]metav1.Object
	// expected are the keys that are just being written, with the last version
	// that the watch has brought meanwhile.
	expected map[string]string
}

// expect announces a write of the object at key. Until settle, what the watch
// brings of it is held back: it may be the echo of the write, which can arrive
// before the API's answer does.
func (o *overlay) expect(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.expected == nil {
		o.expected = map[string]string{}
	}
	o.expected[key] = ""
}

// settle ends what expect has begun: got is the object as it was written, nil
// if it was not. It reports whether the watch has brought anything else.
func (o *overlay) settle(key string, got metav1.Object) (news bool) {
	if got != nil {
		o.put(key, got)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	held := o.expected[key]
	delete(o.expected, key)
	return held != "" && (got == nil || held != got.GetResourceVersion())
}

// put remembers obj, as the API returned it from a write.
func (o *overlay) put(key string, obj metav1.Object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.newer == nil {
		o.newer = map[string]metav1.Object{}
	}
	if had, ok := o.newer[key]; !ok || version(obj) > version(had) {
		o.newer[key] = obj
	}
}

// pick returns the newer of cached and what was put under key. An object that
// the cache has lost is deleted, whatever was written to it before.
func (o *overlay) pick(key string, cached metav1.Object) metav1.Object {
	o.mu.Lock()
	defer o.mu.Unlock()
	wrote, ok := o.newer[key]
	switch {
	case !ok:
		return cached
	case cached == nil, cached.GetUID() != wrote.GetUID(), version(cached) >= version(wrote):
		delete(o.newer, key)
		return cached
	}
	return wrote
}

// brought reports whether obj, which the watch has brought, is what was put
// under key, and forgets what is not newer than obj.
func (o *overlay) brought(key string, obj metav1.Object) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, held := o.expected[key]; held && obj != nil {
		o.expected[key] = obj.GetResourceVersion()
		return true
	}
	wrote, ok := o.newer[key]
	if !ok || obj == nil || version(obj) < version(wrote) {
		return false
	}
	delete(o.newer, key)
	return obj.GetUID() == wrote.GetUID() && obj.GetResourceVersion() == wrote.GetResourceVersion()
}

// version returns the resourceVersion of obj as a number: the API promises
// since 1.35 that those of one kind can be compared.
func version(obj metav1.Object) uint64 {
	v, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

package lab

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NewNamespace makes another Kubernetes namespace for the story, which ends
// with it. The name ends in suffix.
func (l *Lab) NewNamespace(suffix string, labels map[string]string) (name string) {
	l.t.Helper()
	name = l.name + "-" + suffix
	if err := l.newNamespace(name, labels); err != nil {
		l.t.Fatalf("creating namespace %s: %v", name, err)
	}
	return name
}

func (l *Lab) newNamespace(name string, labels map[string]string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	_, err := l.cp.API.CoreV1().Namespaces().Create(l.ctx, ns, metav1.CreateOptions{})
	if err == nil {
		l.spaces = append(l.spaces, name)
	}
	return err
}

// LabelNamespace sets a label of a Kubernetes namespace.
func (l *Lab) LabelNamespace(name, label, value string) {
	l.t.Helper()
	patch := fmt.Appendf(nil, `{"metadata": {"labels": {%q: %q}}}`, label, value)
	_, err := l.cp.API.CoreV1().Namespaces().Patch(l.ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		l.t.Fatalf("labelling namespace %s: %v", name, err)
	}
}

// locate returns the Kubernetes namespace and the name of what is called
// name or namespace/name.
func (l *Lab) locate(name string) (namespace, bare string) {
	if ns, bare, found := strings.Cut(name, "/"); found {
		return ns, bare
	}
	return l.Namespace, name
}

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

// fieldManager is who the API server believes to have applied an object.
const fieldManager = "lab"

// An API is a client of the cluster with the rights of an administrator.
type API struct {
	kubernetes.Interface
	dynamic  dynamic.Interface
	warnings warnings

	mu    sync.Mutex
	kinds map[schema.GroupVersionKind]metav1.APIResource // that were looked up
}

func newAPI(config *rest.Config) (*API, error) {
	a := &API{kinds: map[schema.GroupVersionKind]metav1.APIResource{}}
	config = rest.CopyConfig(config)
	config.WarningHandlerWithContext = &a.warnings
	var err error
	if a.Interface, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	a.dynamic, err = dynamic.NewForConfig(config)
	return a, err
}

// warnings collects what the API server puts into Warning headers.
type warnings struct {
	mu   sync.Mutex
	text []string
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, code int, _, text string) {
	const miscellaneous = 299 // RFC 7234 §5.5.7; the API server sends no other
	if code != miscellaneous || text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := w.text
	w.text = nil
	return text
}

// Apply applies the objects, by server-side apply with strict validation.
// Those of a namespaced kind that name no namespace go to namespace. A warning
// of the API server is an error.
func (a *API) Apply(ctx context.Context, namespace, manifests string) error {
	objects, err := parse(manifests)
	if err != nil {
		return err
	}
	a.warnings.take()
	for _, o := range objects {
		if err := a.applyOne(ctx, namespace, o); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if w := a.warnings.take(); len(w) > 0 {
			return fmt.Errorf("applying %s %s: warning: %s", o.GetKind(), o.GetName(), strings.Join(w, "; "))
		}
	}
	return nil
}

func (a *API) applyOne(ctx context.Context, namespace string, o *unstructured.Unstructured) error {
	client, err := a.client(o.GroupVersionKind(), namespace, o.GetNamespace())
	if err != nil {
		return err
	}
	body, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	_, err = client.Patch(ctx, o.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager: fieldManager, Force: &force, FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

// Try asks the API server whether it would create the objects or, where they
// are there, update them. It stores nothing. This is not server-side apply,
// which finds some faults before validation does, in words of its own.
func (a *API) Try(ctx context.Context, namespace, manifests string) error {
	objects, err := parse(manifests)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := a.tryOne(ctx, namespace, o); err != nil {
			return fmt.Errorf("trying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

func (a *API) tryOne(ctx context.Context, namespace string, o *unstructured.Unstructured) error {
	client, err := a.client(o.GroupVersionKind(), namespace, o.GetNamespace())
	if err != nil {
		return err
	}
	dryRun, strict := []string{metav1.DryRunAll}, metav1.FieldValidationStrict
	_, err = client.Create(ctx, o, metav1.CreateOptions{DryRun: dryRun, FieldValidation: strict})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// Herald may write the status meanwhile.
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		now, err := client.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		o.SetResourceVersion(now.GetResourceVersion())
		_, err = client.Update(ctx, o, metav1.UpdateOptions{DryRun: dryRun, FieldValidation: strict})
		return err
	})
}

// Delete deletes the objects of the manifests, at once; what is not there is
// no error.
func (a *API) Delete(ctx context.Context, namespace, manifests string) error {
	objects, err := parse(manifests)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range objects {
		client, err := a.client(o.GroupVersionKind(), namespace, o.GetNamespace())
		if err == nil {
			err = ignoreNotFound(client.Delete(ctx, o.GetName(), atOnce()))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("deleting %s %s: %w", o.GetKind(), o.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// client returns the client for a kind; own, the object's own namespace, goes
// before the default.
func (a *API) client(gvk schema.GroupVersionKind, namespace, own string) (dynamic.ResourceInterface, error) {
	r, err := a.lookUp(gvk)
	if err != nil {
		return nil, err
	}
	all := a.dynamic.Resource(gvk.GroupVersion().WithResource(r.Name))
	switch {
	case !r.Namespaced:
		return all, nil
	case own != "":
		return all.Namespace(own), nil
	}
	return all.Namespace(namespace), nil
}

func (a *API) lookUp(gvk schema.GroupVersionKind) (metav1.APIResource, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.kinds[gvk]; ok {
		return r, nil
	}
	list, err := a.Discovery().ServerResourcesForGroupVersion(gvk.GroupVersion().String())
	if err != nil {
		return metav1.APIResource{}, fmt.Errorf("looking up %s: %w", gvk, err)
	}
	i := slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool {
		return r.Kind == gvk.Kind && !strings.Contains(r.Name, "/")
	})
	if i < 0 {
		return metav1.APIResource{}, fmt.Errorf("looking up %s: the API server does not know it", gvk)
	}
	a.kinds[gvk] = list.APIResources[i]
	return list.APIResources[i], nil
}

// parse reads a stream of YAML or JSON documents.
func parse(manifests string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewBufferString(manifests), 4096)
	for {
		var fields map[string]any
		err := decoder.Decode(&fields)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading manifests: %w", err)
		}
		if len(fields) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: fields})
		}
	}
}

func atOnce() metav1.DeleteOptions {
	var now int64
	return metav1.DeleteOptions{GracePeriodSeconds: &now}
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

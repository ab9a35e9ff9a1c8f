package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// heraldNamespace is where deploy/base puts Herald.
const heraldNamespace = "herald-system"

// Where the API server keeps Herald's own kinds.
var (
	poolsResource    = schema.GroupVersionResource{Group: "herald-lb.io", Version: "v1alpha1", Resource: "addresspools"}
	peersResource    = schema.GroupVersionResource{Group: "herald-lb.io", Version: "v1alpha1", Resource: "bgppeers"}
	speakersResource = schema.GroupVersionResource{Group: "herald-lb.io", Version: "v1alpha1", Resource: "speakerstatuses"}
	claimsResource   = schema.GroupVersionResource{Group: "herald-lb.io", Version: "v1alpha1", Resource: "addressclaims"}
)

// install builds Herald and applies deploy/base as a user would. The API server must accept all
// of it without a warning. No pods come of it, for nobody here makes any:
// what the labs use of it are the CRDs and the roles.
func (cp *ControlPlane) install(ctx context.Context) (err error) {
	if cp.herald, err = heraldBinary(ctx); err != nil {
		return err
	}
	if err := cp.apply(ctx, "base"); err != nil {
		return err
	}
	err = poll(ctx, readyWithin, func() error {
		_, err := cp.API.dynamic.Resource(poolsResource).List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("waiting for AddressPools to be served: %w", err)
	}
	return nil
}

// apply applies a folder of deploy as a user would.
func (cp *ControlPlane) apply(ctx context.Context, folder string) error {
	manifests, err := kustomize(ctx, folder)
	if err != nil {
		return err
	}
	if err := cp.API.Apply(ctx, "default", manifests); err != nil {
		return fmt.Errorf("installing deploy/%s: %w", folder, err)
	}
	return nil
}

func kustomize(ctx context.Context, folder string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	kubectl, err := Tool("KUBECTL")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, kubectl, "kustomize", filepath.Join(root, "deploy", folder)).Output()
	if exit := (&exec.ExitError{}); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("rendering deploy/%s: %w", folder, err)
	}
	return string(out), nil
}

// wipe deletes what a story has left in the cluster, so that the next one
// begins with an empty one. Pods go before nodes, or their deletion would wait
// for a kubelet. The story was played in namespace; made are the namespaces
// that were made for it.
func (a *API) wipe(ctx context.Context, namespace string, made []string) error {
	core := a.CoreV1()
	errs := []error{
		a.wipeServices(ctx),
		a.wipeClaims(ctx),
		core.Pods(namespace).DeleteCollection(ctx, atOnce(), metav1.ListOptions{}),
		ignoreNotFound(a.dynamic.Resource(poolsResource).DeleteCollection(ctx, atOnce(), metav1.ListOptions{})),
		ignoreNotFound(a.dynamic.Resource(speakersResource).DeleteCollection(ctx, atOnce(), metav1.ListOptions{})),
		ignoreNotFound(a.dynamic.Resource(peersResource).DeleteCollection(ctx, atOnce(), metav1.ListOptions{})),
		core.Secrets(heraldNamespace).DeleteCollection(ctx, atOnce(), metav1.ListOptions{}),
		core.Nodes().DeleteCollection(ctx, atOnce(), metav1.ListOptions{}),
		a.CoordinationV1().Leases(heraldNamespace).DeleteCollection(ctx, atOnce(), metav1.ListOptions{}),
		a.DiscoveryV1().EndpointSlices(namespace).DeleteCollection(ctx, atOnce(), metav1.ListOptions{}),
	}
	for _, ns := range made {
		errs = append(errs, ignoreNotFound(core.Namespaces().Delete(ctx, ns, atOnce())))
	}
	return errors.Join(errs...)
}

// wipeClaims deletes every AddressClaim.
func (a *API) wipeClaims(ctx context.Context) error {
	list, err := a.dynamic.Resource(claimsResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return ignoreNotFound(err)
	}
	var errs []error
	for _, c := range list.Items {
		claims := a.dynamic.Resource(claimsResource).Namespace(c.GetNamespace())
		errs = append(errs, ignoreNotFound(claims.Delete(ctx, c.GetName(), atOnce())))
	}
	return errors.Join(errs...)
}

// wipeAtOnce is how many requests delete Services at the same time: stories
// of the controller have thousands.
const wipeAtOnce = 16

// wipeServices deletes every Service but the API server's own.
func (a *API) wipeServices(ctx context.Context) error {
	list, err := a.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	errs := make([]error, len(list.Items))
	var g errgroup.Group
	g.SetLimit(wipeAtOnce)
	for i, s := range list.Items {
		if s.Namespace == "default" && s.Name == "kubernetes" {
			continue
		}
		g.Go(func() error { errs[i] = a.wipeService(ctx, &s); return nil })
	}
	_ = g.Wait() // every error is in errs
	return errors.Join(errs...)
}

// wipeService deletes a Service. Finalizers are taken off: whoever would have
// to do their work has been stopped.
func (a *API) wipeService(ctx context.Context, s *corev1.Service) error {
	client := a.CoreV1().Services(s.Namespace)
	err := ignoreNotFound(client.Delete(ctx, s.Name, atOnce()))
	if err != nil || len(s.Finalizers) == 0 {
		return err
	}
	bare := []byte(`{"metadata":{"finalizers":null}}`)
	_, err = client.Patch(ctx, s.Name, types.MergePatchType, bare, metav1.PatchOptions{})
	return ignoreNotFound(err)
}

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Drain has a node announce only what no other can, or takes that back.
func Drain(ctx context.Context, c Clients, node string, on bool) error {
	var text any // null takes it away
	if on {
		text = time.Now().UTC().Format(time.RFC3339)
	}
	err := annotateObject(ctx, annotationDrain, text, func(ctx context.Context, patch []byte) error {
		_, err := c.Core.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("annotating Node %s: %w", node, err)
	}
	return nil
}

// Avoid has the Service of this namespace and name be announced by other nodes
// than this one, where others can; with "" by any.
func Avoid(ctx context.Context, c Clients, namespace, name, node string) error {
	var text any
	if node != "" {
		text = node
	}
	err := annotateObject(ctx, annotationAvoid, text, func(ctx context.Context, patch []byte) error {
		_, err := c.Core.CoreV1().Services(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("annotating Service %s/%s: %w", namespace, name, err)
	}
	return nil
}

// Avoided returns which nodes a Service is to be announced by only where no other
// can, as Avoid or somebody else has written it.
func Avoided(svc *corev1.Service) string { return svc.Annotations[annotationAvoid] }

func annotateObject(ctx context.Context, key string, text any, patch func(context.Context, []byte) error) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: text}}})
	if err != nil {
		return err
	}
	return patch(ctx, body)
}

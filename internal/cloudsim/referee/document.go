package referee

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

//go:embed hcloud.json.gz
var packed []byte

// A node is an object of a JSON document.
type node = map[string]any

// hetzner reads the document once: it takes a third of a second.
var hetzner = sync.OnceValues(func() (routers.Router, error) {
	doc, err := load(overlay)
	if err != nil {
		return nil, fmt.Errorf("reading hcloud.json: %w", err)
	}
	return gorillamux.NewRouter(doc)
})

// load reads the document and brings it up to date.
func load(changes []amendment) (*openapi3.T, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	var doc node
	if err := json.NewDecoder(unpacked).Decode(&doc); err != nil {
		return nil, err
	}
	// Neither is the host the real one, nor has it the path /v1.
	delete(doc, "servers")
	for _, path := range doc["paths"].(node) {
		delete(path.(node), "servers")
	}
	walk(doc, func(n node) {
		if responses, ok := n["responses"].(node); ok {
			upper(responses, "4xx", "4XX")
			upper(responses, "5xx", "5XX")
		}
	})
	for _, c := range changes {
		c.apply(doc)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromData(text)
}

// upper gives a class of statuses the name that OpenAPI has for it.
func upper(responses node, from, to string) {
	if r, ok := responses[from]; ok {
		responses[to] = r
		delete(responses, from)
	}
}

// walk visits every object of a document.
func walk(v any, visit func(node)) {
	switch v := v.(type) {
	case node:
		visit(v)
		for _, child := range v {
			walk(child, visit)
		}
	case []any:
		for _, child := range v {
			walk(child, visit)
		}
	}
}

package hetzner

import "encoding/json"

// render is the JSON of an answer. hcloud-go's types are made for reading:
// they write null where the API leaves a field out.
func render(body any) []byte {
	var tree any
	if err := json.Unmarshal(mustMarshal(body), &tree); err != nil {
		panic(err) // it was just written
	}
	return mustMarshal(tidy(tree, false))
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types, all of which can be written
	}
	return b
}

// tidy drops nulls inside of lists of services and targets, and makes null of
// the public address that a server has not.
func tidy(node any, dropNull bool) any {
	switch node := node.(type) {
	case []any:
		for i := range node {
			node[i] = tidy(node[i], dropNull)
		}
	case map[string]any:
		for key, value := range node {
			if dropNull && value == nil {
				delete(node, key)
				continue
			}
			value = tidy(value, dropNull || key == "services" || key == "targets")
			if address, ok := value.(map[string]any); ok && (key == "ipv4" || key == "ipv6") && address["ip"] == "" {
				value = nil
			}
			node[key] = value
		}
	}
	return node
}

// clone makes a copy of which nothing is shared.
func clone[T any](v T) T {
	var out T
	if err := json.Unmarshal(mustMarshal(v), &out); err != nil {
		panic(err) // hcloud-go's types read what they write
	}
	return out
}

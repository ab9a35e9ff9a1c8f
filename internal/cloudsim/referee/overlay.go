package referee

import "slices"

// An amendment is a change of the API since the document was written. The date
// is that of https://docs.hetzner.cloud/changelog.
type amendment struct {
	date, what string
	apply      func(doc node)
}

// overlay has ten entries at most: with more, the document is too old.
var overlay = []amendment{
	{"2026-04-27", "assignee_type may be left out of a new Primary IP", func(doc node) {
		drop(schema(doc, "create_primary_ip_request"), "assignee_type")
	}},
	{"2026-04-30", "HTTP services have an idle timeout", func(doc node) {
		properties(schema(doc, "http"))["timeout_idle"] = node{"type": "integer"}
	}},
	{"2026-07-01", "servers and Primary IPs have no datacenter", func(doc node) {
		walk(doc, func(n node) { drop(n, "datacenter") })
	}},
	{"2026-08-01", "a Primary IP's assignee_type can be unassigned", func(doc node) {
		allowAssignee(doc, "unassigned")
	}},
	{"2026-10-05", "a Primary IP's assignee can be a load balancer", func(doc node) {
		allowAssignee(doc, "load_balancer")
	}},
	{"2026-10-05", "a load balancer can be made with Primary IPs that exist", func(doc node) {
		properties(schema(doc, "create_load_balancer_request"))["public_net"] = node{
			"type": "object", "additionalProperties": false,
			"properties": node{"ipv4": node{"type": "integer"}, "ipv6": node{"type": "integer"}},
		}
	}},
	{"2026-10-05", "deleting a load balancer is an action", func(doc node) {
		paths := doc["paths"].(node)
		responses := paths["/load_balancers/{id}"].(node)["delete"].(node)["responses"].(node)
		delete(responses, "204")
		responses["201"] = node{
			"description": "Request succeeded.",
			"content":     node{"application/json": node{"schema": node{"$ref": "#/components/schemas/get_action_response"}}},
		}
	}},
}

func schema(doc node, name string) node {
	return doc["components"].(node)["schemas"].(node)[name].(node)
}

func properties(schema node) node { return schema["properties"].(node) }

// drop makes a field optional, if it was required.
func drop(schema node, field string) {
	if required, ok := schema["required"].([]any); ok {
		required = slices.DeleteFunc(required, func(name any) bool { return name == field })
		schema["required"] = required
		if len(required) == 0 { // which may not be empty
			delete(schema, "required")
		}
	}
}

// allowAssignee adds a type to those that Primary IPs have in answers.
func allowAssignee(doc node, kind string) {
	walk(doc["components"], func(n node) {
		props, ok := n["properties"].(node)
		if !ok || props["assignee_type"] == nil || props["blocked"] == nil {
			return
		}
		assignee := props["assignee_type"].(node)
		assignee["enum"] = append(slices.Clone(assignee["enum"].([]any)), kind)
	})
}

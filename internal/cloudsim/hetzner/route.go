package hetzner

import (
	"strconv"
	"strings"
)

type handler func(*Cloud, *call) (reply, error)

// routes is all there is. A number in a path stands here as {}.
var routes map[string]handler

func init() { // the handlers of actions refer to routes' own helpers
	routes = map[string]handler{
		"GET /actions":                listActions,
		"GET /actions/{}":             getAction,
		"GET /load_balancer_types":    listBalancerTypes,
		"GET /load_balancer_types/{}": getBalancerType,
		"GET /locations":              listLocations,
		"GET /locations/{}":           getLocation,
		"GET /pricing":                getPricing,

		"GET /load_balancers":       listBalancers,
		"POST /load_balancers":      createBalancer,
		"GET /load_balancers/{}":    getBalancer,
		"PUT /load_balancers/{}":    updateBalancer,
		"DELETE /load_balancers/{}": deleteBalancer,

		"GET /floating_ips":       listFloating,
		"POST /floating_ips":      createFloating,
		"GET /floating_ips/{}":    getFloating,
		"PUT /floating_ips/{}":    updateFloating,
		"DELETE /floating_ips/{}": deleteFloating,

		"GET /primary_ips":       listPrimary,
		"POST /primary_ips":      createPrimary,
		"GET /primary_ips/{}":    getPrimary,
		"PUT /primary_ips/{}":    updatePrimary,
		"DELETE /primary_ips/{}": deletePrimary,

		"GET /servers":       listServers,
		"GET /servers/{}":    getServer,
		"PUT /servers/{}":    updateServer,
		"DELETE /servers/{}": deleteServer,

		"GET /networks":       listNetworks,
		"POST /networks":      createNetwork,
		"GET /networks/{}":    getNetwork,
		"DELETE /networks/{}": deleteNetwork,
	}
	for _, kind := range []Kind{LoadBalancer, FloatingIP, PrimaryIP, Server, Network} {
		folder := "GET /" + string(kind) + "s"
		routes[folder+"/actions"] = actionsOf(kind)
		routes[folder+"/actions/{}"] = getAction
		routes[folder+"/{}/actions"] = actionsOf(kind)
		routes[folder+"/{}/actions/{}"] = getAction
	}
	for command, plan := range balancerActions {
		routes["POST /load_balancers/{}/actions/"+command] = onBalancer(command, plan)
	}
	for command, plan := range floatingActions {
		routes["POST /floating_ips/{}/actions/"+command] = onFloating(command, plan)
	}
	for command, plan := range primaryActions {
		routes["POST /primary_ips/{}/actions/"+command] = onPrimary(command, plan)
	}
}

// route finds who answers, and the numbers in the path.
func route(method, path string) (handler, []int64) {
	var ids []int64
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if id, err := strconv.ParseInt(part, 10, 64); err == nil {
			ids = append(ids, id)
			parts[i] = "{}"
		}
	}
	return routes[method+" "+strings.Join(parts, "/")], ids
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

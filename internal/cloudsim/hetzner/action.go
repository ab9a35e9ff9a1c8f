package hetzner

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// maxActionIDs is how many actions can be asked for at once.
const maxActionIDs = 25

const (
	running = "running"
	success = "success"
	failed  = "error"
)

// An action is something that takes time. What it changes is changed when it
// ends, and until then its first resource is locked.
type action struct {
	schema.Action
	due    time.Time
	effect func()
	fails  *failure
}

// A failure makes actions end in an error.
type failure struct {
	command, code string
	times         int
}

func ref(kind Kind, id int64) schema.ActionResourceReference {
	return schema.ActionResourceReference{ID: id, Type: string(kind)}
}

// start begins an action of which effect is what it does.
func (c *Cloud) start(command string, effect func(), on ...schema.ActionResourceReference) schema.Action {
	now := c.now()
	a := &action{
		Action: schema.Action{ID: c.nextID(), Status: running, Command: command, Started: now, Resources: on},
		due:    now.Add(c.opts.Latency), effect: effect,
	}
	for _, f := range c.failures {
		if f.times > 0 && f.command == command {
			f.times--
			a.fails = f
			break
		}
	}
	c.actions[a.ID] = a
	return a.Action
}

// settle ends the actions whose time has come, in that order.
func (c *Cloud) settle() {
	if c.frozen {
		return
	}
	now := c.now()
	var due []*action
	for _, a := range c.actions {
		if a.Status == running && !a.due.After(now) {
			due = append(due, a)
		}
	}
	slices.SortFunc(due, func(a, b *action) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.ID, b.ID))
	})
	for _, a := range due {
		a.end(now)
	}
}

func (a *action) end(now time.Time) {
	a.Progress, a.Finished = 100, &now
	if a.fails != nil {
		a.Status = failed
		a.Error = &schema.ActionError{Code: a.fails.code, Message: "the action failed"}
		return
	}
	a.Status = success
	a.effect()
}

// locked refuses to touch what an action is running on.
func (c *Cloud) locked(kind Kind, id int64) error {
	for _, a := range c.actions {
		if a.Status == running && a.Resources[0] == ref(kind, id) {
			return errorf(codeLocked, "%s is locked: action %d (%s) is running", kind, a.ID, a.Command)
		}
	}
	return nil
}

func actionReply(a schema.Action) reply {
	return reply{http.StatusCreated, schema.ActionGetResponse{Action: a}}
}

// listActions answers with the actions that are asked for by their IDs. All
// actions of a project can no longer be had (2025-01-30).
func listActions(c *Cloud, r *call) (reply, error) {
	ids := r.URL.Query()["id"]
	switch {
	case len(ids) == 0:
		return reply{}, errorf(codeGone, "listing arbitrary actions is no longer possible")
	case len(ids) > maxActionIDs:
		return reply{}, invalid("id", "%d IDs, at most %d are allowed", len(ids), maxActionIDs)
	}
	body := schema.ActionListResponse{Actions: []schema.Action{}}
	for _, text := range ids {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return reply{}, invalid("id", "%q is no ID", text)
		}
		if a, ok := c.actions[id]; ok {
			body.Actions = append(body.Actions, a.Action)
		}
	}
	return reply{http.StatusOK, body}, nil
}

// getAction finds an action by the last ID in the path.
func getAction(c *Cloud, r *call) (reply, error) {
	id := r.ids[len(r.ids)-1]
	a, ok := c.actions[id]
	if !ok || (len(r.ids) == 2 && !slices.ContainsFunc(a.Resources, func(on schema.ActionResourceReference) bool { return on.ID == r.ids[0] })) {
		return reply{}, notFound("action", id)
	}
	return reply{http.StatusOK, schema.ActionGetResponse{Action: a.Action}}, nil
}

// actionsOf lists the actions on one resource or, if the path names none, on
// all of a kind.
func actionsOf(kind Kind) handler {
	return func(c *Cloud, r *call) (reply, error) {
		var items []item
		for _, a := range byID(c.actions) {
			of := slices.ContainsFunc(a.Resources, func(on schema.ActionResourceReference) bool {
				return on.Type == string(kind) && (len(r.ids) == 0 || on.ID == r.ids[0])
			})
			if of {
				items = append(items, item{id: a.ID, created: a.Started, status: a.Status, show: a.Action})
			}
		}
		return list(r, "actions", items)
	}
}

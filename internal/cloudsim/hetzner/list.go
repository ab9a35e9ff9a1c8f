package hetzner

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultPerPage = 25
	maxPerPage     = 50
)

// An item is what lists are filtered and sorted by, and what is shown of it.
type item struct {
	id      int64
	name    string
	created time.Time
	labels  map[string]string
	status  string
	ip      string
	show    any
}

// A page is one part of a list.
type page struct {
	field string // what the list is called in the answer
	items []any
	meta  pagination
}

// A pagination has null where schema.MetaPagination has 0.
type pagination struct {
	Page     int  `json:"page"`
	PerPage  int  `json:"per_page"`
	Previous *int `json:"previous_page"`
	Next     *int `json:"next_page"`
	Last     int  `json:"last_page"`
	Total    int  `json:"total_entries"`
}

// MarshalJSON implements json.Marshaler.
func (p page) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{p.field: p.items, "meta": map[string]any{"pagination": p.meta}})
}

// links is the header that says where the other pages are.
func (p page) links(r *http.Request) string {
	var links []string
	add := func(rel string, number *int) {
		if number == nil {
			return
		}
		u := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path}
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(*number))
		u.RawQuery = q.Encode()
		links = append(links, fmt.Sprintf("<%s>; rel=%q", &u, rel))
	}
	add("prev", p.meta.Previous)
	add("next", p.meta.Next)
	add("last", &p.meta.Last)
	return strings.Join(links, ", ")
}

// list answers with one page of those items that the query asks for.
func list(r *call, field string, items []item) (reply, error) {
	q := r.URL.Query()
	items, err := filter(q, items)
	if err != nil {
		return reply{}, err
	}
	if err := sortItems(q["sort"], items); err != nil {
		return reply{}, err
	}
	number, err := positive(q, "page", 1)
	if err != nil {
		return reply{}, err
	}
	perPage, err := positive(q, "per_page", defaultPerPage)
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, cut(field, items, number, min(perPage, maxPerPage))}, nil
}

// cut takes the page with that number out of items.
func cut(field string, items []item, number, perPage int) page {
	last := max(1, (len(items)+perPage-1)/perPage)
	p := page{field: field, items: []any{}, meta: pagination{Page: number, PerPage: perPage, Last: last, Total: len(items)}}
	if number > 1 {
		p.meta.Previous = new(min(number-1, last))
	}
	if number < last {
		p.meta.Next = new(number + 1)
	}
	if number <= last {
		for _, it := range items[(number-1)*perPage : min(number*perPage, len(items))] {
			p.items = append(p.items, it.show)
		}
	}
	return p
}

func filter(q url.Values, items []item) ([]item, error) {
	var sel selector
	if text := q.Get("label_selector"); text != "" {
		var err error
		if sel, err = parseSelector(text); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(items, func(it item) bool {
		return !sel.matches(it.labels) ||
			(q.Get("name") != "" && q.Get("name") != it.name) ||
			(q.Get("ip") != "" && q.Get("ip") != it.ip) ||
			(q.Has("status") && !slices.Contains(q["status"], it.status)) ||
			(q.Has("id") && !slices.Contains(q["id"], strconv.FormatInt(it.id, 10)))
	}), nil
}

func sortItems(by []string, items []item) error {
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.id, b.id) })
	for _, spec := range slices.Backward(by) {
		key, order, _ := strings.Cut(spec, ":")
		compare, ok := map[string]func(a, b item) int{
			"id":      func(a, b item) int { return cmp.Compare(a.id, b.id) },
			"name":    func(a, b item) int { return cmp.Compare(a.name, b.name) },
			"status":  func(a, b item) int { return cmp.Compare(a.status, b.status) },
			"created": func(a, b item) int { return a.created.Compare(b.created) },
			"started": func(a, b item) int { return a.created.Compare(b.created) },
		}[key]
		if !ok || (order != "" && order != "asc" && order != "desc") {
			return invalid("sort", "%q is no order", spec)
		}
		slices.SortStableFunc(items, func(a, b item) int {
			if order == "desc" {
				a, b = b, a
			}
			return compare(a, b)
		})
	}
	return nil
}

func positive(q url.Values, name string, otherwise int) (int, error) {
	if !q.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < 1 {
		return 0, invalid(name, "%q is no number above 0", q.Get(name))
	}
	return n, nil
}

// byID returns the values of a table in the order in which they were made.
func byID[T any](table map[int64]T) []T {
	var all []T
	for _, id := range slices.Sorted(maps.Keys(table)) {
		all = append(all, table[id])
	}
	return all
}

package metallb

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// A File is a stream of YAML or JSON documents.
type File struct {
	Name string // for messages
	Data []byte
}

// maxNesting is how many Lists may lie in each other.
const maxNesting = 4

// An input is what has been read.
type input struct {
	notes
	pools      []pool
	layer2     []advertisement[layer2Spec]
	bgp        []advertisement[bgpAdvertisementSpec]
	peers      []peer
	profiles   []profile
	aliases    []alias
	services   []service
	namespace  string            // Herald's
	renamed    map[string]string // pools of a ConfigMap, by the name they had there
	lostPeers  map[string]bool   // peers that are not translated, by name
	passed     map[string]int    // objects of other kinds, by kind
	unreadable []error
	seen       map[string]bool // objects
}

// read reads files. What cannot be read is in unreadable; the rest is read all
// the same.
func read(files []File) *input {
	in := &input{renamed: map[string]string{}, lostPeers: map[string]bool{}, passed: map[string]int{}, seen: map[string]bool{}}
	for _, f := range files {
		if err := in.file(f.Data); err != nil {
			in.unreadable = append(in.unreadable, fmt.Errorf("reading %s: %w", f.Name, err))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(in.passed)) {
		in.add(Attention, origin{object: kind}, "", "is no configuration of MetalLB: passed over (%d)", in.passed[kind])
	}
	return in
}

func (in *input) file(data []byte) error {
	var errs []error
	next := documents(data)
	for i := 1; ; i++ {
		doc, err := next()
		if errors.Is(err, io.EOF) {
			return errors.Join(errs...)
		}
		if err != nil { // the reader cannot find the next document
			return errors.Join(append(errs, fmt.Errorf("document %d: %w", i, err))...)
		}
		if doc, err = yaml.YAMLToJSONStrict(doc); err == nil {
			err = in.document(doc, maxNesting)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("document %d: %w", i, err))
		}
	}
}

// documents returns a function that returns one document after the other, and
// io.EOF after the last.
func documents(data []byte) func() ([]byte, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		d := json.NewDecoder(bytes.NewReader(data))
		return func() ([]byte, error) {
			var raw json.RawMessage
			err := d.Decode(&raw)
			return raw, err
		}
	}
	return utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))).Read
}

// A header is what all objects have.
type header struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

func (h header) group() string {
	group, _, ok := strings.Cut(h.APIVersion, "/")
	if !ok {
		return "" // core
	}
	return group
}

func (h header) origin() origin {
	return origin{object: strings.TrimSpace(h.Kind + " " + qualified(h.Metadata.Namespace, h.Metadata.Name))}
}

func qualified(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// document reads one document, which may be a List of objects.
func (in *input) document(doc []byte, nesting int) error {
	if string(bytes.TrimSpace(doc)) == "null" {
		return nil
	}
	var h header
	if err := kjson.UnmarshalCaseSensitivePreserveInts(doc, &h); err != nil {
		return fmt.Errorf("is no object of Kubernetes: %w", err)
	}
	if !strings.HasSuffix(h.Kind, "List") {
		return in.object(h, doc)
	}
	if nesting == 0 {
		return errors.New("has Lists within Lists within Lists: unpack them")
	}
	var errs []error
	for i, item := range h.Items {
		// The items of a typed list may leave out what the list says.
		item, err := withType(item, h.APIVersion, strings.TrimSuffix(h.Kind, "List"))
		if err == nil {
			err = in.document(item, nesting-1)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("items[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func withType(item []byte, apiVersion, kind string) ([]byte, error) {
	if kind == "" {
		return item, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(item, &fields); err != nil {
		return nil, fmt.Errorf("is no object of Kubernetes: %w", err)
	}
	if _, ok := fields["kind"]; ok || fields == nil {
		return item, nil
	}
	fields["apiVersion"], _ = json.Marshal(apiVersion)
	fields["kind"], _ = json.Marshal(kind)
	return json.Marshal(fields)
}

// object reads one object.
func (in *input) object(h header, doc []byte) error {
	o := h.origin()
	var err error
	switch h.group() + " " + h.Kind {
	case "metallb.io IPAddressPool", "metallb.io AddressPool", "metallb.io L2Advertisement", "metallb.io BGPAdvertisement",
		"metallb.io BGPPeer", "metallb.io BFDProfile", "metallb.io Community", " ConfigMap", " Service":
		if h.Metadata.Name == "" {
			return fmt.Errorf("%s has no metadata.name", h.Kind)
		}
		if in.seen[o.object] {
			in.add(Attention, o, "", "is there more than once: only the first is translated")
			return nil
		}
		err = in.known(h, o, doc)
		in.seen[o.object] = err == nil
	case "metallb.io ServiceL2Status", "metallb.io ServiceBGPStatus", "metallb.io ConfigurationState":
		in.add(Done, o, "", "is written by MetalLB, not by its users: left out")
	case "metallb.io MetalLB", "frrk8s.metallb.io FRRConfiguration":
		in.add(Missing, o, "", "no equivalent: settings of MetalLB's operator or of FRR; look for what they ask in Herald's flags and pools")
	default:
		if h.group() == "metallb.io" {
			in.add(Missing, o, "", "no equivalent: this kind is not known")
			return nil
		}
		in.passed[h.Kind]++
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o.object, err)
	}
	return nil
}

func (in *input) known(h header, o origin, doc []byte) error {
	switch h.Kind {
	case "IPAddressPool":
		return readResource(in, o, doc, func(r resource[poolSpec]) { in.pools = append(in.pools, newPool(o, r.Metadata, r.Spec)) })
	case "AddressPool":
		return readResource(in, o, doc, func(r resource[oldPoolSpec]) { in.oldPool(o, r.Metadata, r.Spec) })
	case "L2Advertisement":
		return readResource(in, o, doc, func(r resource[layer2Spec]) {
			pools := in.selection(o, r.Metadata.Namespace, r.Spec.IPAddressPools, r.Spec.IPAddressPoolSelectors)
			in.layer2 = append(in.layer2, advertisement[layer2Spec]{o, pools, r.Spec})
		})
	case "BGPAdvertisement":
		return readResource(in, o, doc, func(r resource[bgpAdvertisementSpec]) {
			pools := in.selection(o, r.Metadata.Namespace, r.Spec.IPAddressPools, r.Spec.IPAddressPoolSelectors)
			in.bgp = append(in.bgp, advertisement[bgpAdvertisementSpec]{o, pools, r.Spec})
		})
	case "BGPPeer":
		return readResource(in, o, doc, func(r resource[bgpPeerSpec]) {
			in.peers = append(in.peers, peer{o, r.Metadata, r.Spec, strings.HasSuffix(r.APIVersion, "/v1beta1")})
		})
	case "BFDProfile":
		return readResource(in, o, doc, func(r resource[bfdProfileSpec]) {
			in.profiles = append(in.profiles, profile{o, r.Metadata.Name, r.Spec})
		})
	case "Community":
		return readResource(in, o, doc, func(r resource[communitySpec]) {
			for i, c := range r.Spec.Communities {
				in.aliases = append(in.aliases, alias{o, fmt.Sprintf("spec.communities[%d]", i), c.Name, c.Value})
			}
		})
	case "ConfigMap":
		return in.configMap(o, doc)
	}
	return in.service(o, doc)
}

// readResource reads doc and hands it to use. Fields that are not known are
// noted, and so is what stands in the object but is nobody's wish.
func readResource[S any](in *input, o origin, doc []byte, use func(resource[S])) error {
	var r resource[S]
	unknown, err := kjson.UnmarshalStrict(doc, &r)
	if err != nil {
		return err
	}
	in.unknown(o, unknown)
	in.metadata(o, r.Metadata)
	if len(r.Status) > 0 {
		in.add(Done, o, "status", "is written by MetalLB, not by its users: left out")
	}
	use(r)
	return nil
}

// unknown notes the fields that a strict decoder has complained of.
func (in *input) unknown(o origin, complaints []error) {
	for _, c := range complaints {
		var f kjson.FieldError
		if !errors.As(c, &f) {
			in.add(Missing, o, "", "%v", c)
			continue
		}
		in.add(Missing, o, f.FieldPath(), "no equivalent: this field is not known, and not translated")
	}
}

// metadata notes what of m is not carried over. Names, labels and annotations
// are for others to note.
func (in *input) metadata(o origin, m metav1.ObjectMeta) {
	if m.Namespace != "" {
		in.add(Done, o, "metadata.namespace", "is not needed: Herald's objects belong to the cluster")
	}
	//lint:ignore SA1019 old clusters have set it
	linked := m.SelfLink != ""
	for field, set := range map[string]bool{
		"metadata.generateName": m.GenerateName != "", "metadata.selfLink": linked, "metadata.uid": m.UID != "",
		"metadata.resourceVersion": m.ResourceVersion != "", "metadata.generation": m.Generation != 0,
		"metadata.creationTimestamp": !m.CreationTimestamp.IsZero(), "metadata.managedFields": len(m.ManagedFields) > 0,
		"metadata.deletionTimestamp": m.DeletionTimestamp != nil, "metadata.deletionGracePeriodSeconds": m.DeletionGracePeriodSeconds != nil,
	} {
		if set {
			in.add(Done, o, field, "is set by the API server: left out")
		}
	}
	if len(m.OwnerReferences) > 0 {
		in.add(Attention, o, "metadata.ownerReferences", "left out: what owns the object must make Herald's itself")
	}
	if len(m.Finalizers) > 0 {
		in.add(Done, o, "metadata.finalizers", "left out: Herald's pools need none")
	}
}

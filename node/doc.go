// Package node is one Helenus node: it builds the components from a configuration, binds the small interfaces that they
// declare to one another, starts them in order and stops them in reverse. It is the only package that knows everything.
//
// Start order: data folder, metadata log (its state is known without a quorum), storage, transport, formation (an empty
// node founds or joins here), metadata log running, failure detector, coordinator, admin interface, catching up with the
// newest metadata (catchup.go), CQL server. Nothing listens for clients before the node can serve them.
//
// Stop order is the reverse, and begins with drain: no new requests, those under way are answered, the others are told.
//
// No policy may come in here: what is decided is decided in the component.
package node

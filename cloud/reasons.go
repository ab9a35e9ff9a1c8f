package cloud

// Reasons of Events. They are part of the interface: people alert on them.
const (
	ReasonCreated           = "LoadBalancerCreated"
	ReasonAdopted           = "LoadBalancerAdopted"
	ReasonDeleted           = "LoadBalancerDeleted"
	ReasonDriftRepaired     = "DriftRepaired"
	ReasonConflict          = "OwnershipConflict"
	ReasonProtocol          = "UnsupportedProtocol"
	ReasonSourceRanges      = "SourceRangesUnsupported"
	ReasonTargetLimit       = "TargetLimitReached"
	ReasonNoInstance        = "NoCloudInstance"
	ReasonLimit             = "CloudLimitExceeded"
	ReasonAuth              = "CloudAuthFailed"
	ReasonRateLimited       = "CloudRateLimited"
	ReasonRecreate          = "RecreateRequired"
	ReasonProtected         = "DeletionProtected"
	ReasonOrphan            = "OrphanFound"
	ReasonInvalidAnnotation = "InvalidAnnotation"
	ReasonNodePort          = "NodePortRequired"
	ReasonDryRun            = "DryRun"
	ReasonDuplicate         = "DuplicateRemoved"
	ReasonReserved          = "AddressReserved"
	ReasonMoved             = "AddressMoved"
	ReasonNotMoved          = "AddressNotMoved"
	ReasonAddressFailed     = "AddressFailed"
)

"""The conversion-error report: the loss of accuracy by layer and by cause.

``origin`` brings the source network into the form that the conversion gave it, ``fed`` lets spikes drive it,
``terms`` defines the five errors, ``measurement`` runs both networks over the data, ``statistics`` gathers
what the report says of a layer, ``verdict`` draws the conclusion, ``energy`` counts the cost. ``document``
writes all of it as JSON, ``charts`` and ``page`` as one HTML file.
"""

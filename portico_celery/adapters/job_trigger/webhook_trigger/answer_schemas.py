"""What the answers are like: the documents of job_document, batch and problem as schemas, for the OpenAPI document."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from portico_celery.ports.job import JobStatus

_STATUSES = validate.OneOf([status.value for status in JobStatus])


class AcceptedSchema(Schema):
    """A job that was accepted. An event that no job stands for has the status ``ignored``, and no more."""

    job_id = fields.UUID()
    status = fields.String(required=True)
    status_url = fields.String(allow_none=True)


class JobSummarySchema(Schema):
    """A job in a list."""

    job_id = fields.UUID(required=True)
    job_type = fields.String(required=True)
    queue_name = fields.String(required=True)
    status = fields.String(required=True, validate=_STATUSES)
    priority = fields.Integer(required=True)
    retry_count = fields.Integer(required=True)
    max_retries = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True, allow_none=True)
    scheduled_at = fields.AwareDateTime(required=True, allow_none=True)
    started_at = fields.AwareDateTime(required=True, allow_none=True)
    completed_at = fields.AwareDateTime(required=True, allow_none=True)
    failed_at = fields.AwareDateTime(required=True, allow_none=True)
    error_message = fields.String(required=True, allow_none=True)


class AttemptSchema(Schema):
    """One run of a job."""

    number = fields.Integer(required=True)
    worker = fields.String(required=True)
    started_at = fields.AwareDateTime(required=True, allow_none=True)
    ended_at = fields.AwareDateTime(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)


class JobSchema(JobSummarySchema):
    """A job with its result and its history."""

    result_data = fields.Dict(required=True, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)


class JobPageSchema(Schema):
    """Some jobs, the newest first. While there is a next_cursor, there may be more."""

    jobs = fields.List(fields.Nested(JobSummarySchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class QueueStatsSchema(Schema):
    """How many jobs of a queue are in which state."""

    queue_name = fields.String(required=True)
    pending_count = fields.Integer(required=True)
    running_count = fields.Integer(required=True)
    completed_count = fields.Integer(required=True)
    failed_count = fields.Integer(required=True)
    dead_letter_count = fields.Integer(required=True)


class ProblemSchema(Schema):
    """An error, by RFC 9457. ``errors`` names what is wrong with each field."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    request_id = fields.String()
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))


class OutcomeSchema(Schema):
    """What became of one job of a batch: 202 with its id, or a problem; ``retry_after`` is in seconds."""

    status = fields.Integer(required=True)
    job_id = fields.UUID()
    job_status = fields.String(validate=_STATUSES)
    status_url = fields.String()
    replayed = fields.Boolean()
    type = fields.String()
    title = fields.String()
    detail = fields.String()
    request_id = fields.String()
    retry_after = fields.Integer()
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))


class BatchOutcomeSchema(Schema):
    """What became of each job, in their order."""

    accepted = fields.Integer(required=True)
    refused = fields.Integer(required=True)
    jobs = fields.List(fields.Nested(OutcomeSchema), required=True)

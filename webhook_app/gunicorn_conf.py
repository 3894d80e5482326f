"""Settings for gunicorn: ``PORTICO_APP=shop gunicorn -c python:webhook_app.gunicorn_conf``.

Every view waits for the job store and does little else, so threads serve it better than more processes.
"""

wsgi_app = "webhook_app:create_app()"
worker_class = "gthread"
threads = 16

"""A Django project and its manage.py: ``django_app.py runserver``; /, /big, a POST that comes back."""

import sys

from content import BIG, HELLO
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    DEBUG=True, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="a probe's", MIDDLEWARE=[], INSTALLED_APPS=[]
)


def root(request):
    return HttpResponse(request.body if request.method == "POST" else HELLO)


def big(_request):
    return HttpResponse(BIG)


urlpatterns = [path("", root), path("big", big)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
else:
    app = get_wsgi_application()

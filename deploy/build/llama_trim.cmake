# Shortens the llama.cpp build that llama-cpp-python triggers (503 s -> about 160 s on two cores):
# the "common" helper library is not used by the Python binding, and a unity build compiles
# the many model files of libllama in batches. Included through CMAKE_PROJECT_INCLUDE, so it runs
# once for every project() call; only the outermost project schedules the unity build.
set(LLAMA_BUILD_COMMON OFF)

function(allsorts_unity_build)
    if(TARGET llama)
        set_target_properties(llama PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    endif()
endfunction()

if(PROJECT_NAME STREQUAL "llama_cpp")
    cmake_language(DEFER CALL allsorts_unity_build)
endif()

# What this project changes of the llama.cpp build that llama-cpp-python triggers. Included through
# CMAKE_PROJECT_INCLUDE, so it runs once for every project() call; only the outermost project schedules the changes.
#
# - Shorter (503 s -> about 100 to 160 s on two cores): the "common" helper library is not used by the Python binding,
#   and a unity build compiles the many model files of libllama in batches.
# - No AMX tiles: GCC 12 (Debian 12's) compiles half of the tile configuration away, and the first matrix product ends
#   the process with a general protection fault. They come with -march=native on Intel's server processors since 2023,
#   so these options must stand after it. AVX-512 VNNI is used instead.
# - Faster (three times, from two rows in a step on): Q8_0 on x86-64 with AVX-512 VNNI, see q8_0_vnni.cpp. ELF linkers
#   lead ggml's calls there; elsewhere nothing changes.
set(LLAMA_BUILD_COMMON OFF)

function(allsorts_changes)
    if(TARGET llama)
        set_target_properties(llama PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    endif()
    if(TARGET ggml-cpu AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT MSVC)
        target_compile_options(ggml-cpu PRIVATE -mno-amx-tile -mno-amx-int8 -mno-amx-bf16)
        get_target_property(kind ggml-cpu TYPE)
        if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND kind STREQUAL "SHARED_LIBRARY")
            target_sources(ggml-cpu PRIVATE ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/q8_0_vnni.cpp)
            target_link_options(ggml-cpu PRIVATE LINKER:--wrap=llamafile_sgemm)
        endif()
    endif()
endfunction()

if(PROJECT_NAME STREQUAL "llama_cpp")
    cmake_language(DEFER CALL allsorts_changes)
endif()
